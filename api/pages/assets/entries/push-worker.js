// Shows a message that came to this browser; a tap opens the address that stands in it, or the incidents.

self.addEventListener("push", (event) => {
  const { title, body } = event.data?.json() ?? {};
  if (!body) return;
  const link = body.match(/https?:\/\/\S+/)?.[0] ?? "/incidents";
  const shown = body.replace(/\s*https?:\/\/\S+/, "");
  event.waitUntil(self.registration.showNotification(title || "河长", { body: shown, tag: link, data: link, requireInteraction: true, icon: "/favicon.ico" }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(self.clients.openWindow(event.notification.data));
});
