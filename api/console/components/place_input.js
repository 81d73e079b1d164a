// A place on the map of the rivers: tapped, told by the phone, or with the keyboard where the cross is. It is sent once chosen.
import { h } from "vue";
import { leaflet as L } from "nicegui-leaflet";

const DARK = "#22363a";
const WATER = "#b4cbcd";
const MARK = "#0b5a5e";
const NAMES_FROM = 13; // below this zoom the names of the rivers lie over each other
const NEAR = 15; // a place tapped from farther away is looked at closely, to be set right

// a name as an element: Leaflet takes a string for HTML
const text = (name) => Object.assign(document.createElement("span"), { textContent: name });

export default {
  props: { words: Object, language: String, reaches: String, resourcePath: String },
  emits: ["placed"],
  data: () => ({ said: "", failed: false, place: null }),

  render() {
    const words = this.words;
    const phone = Boolean(navigator.geolocation && window.isSecureContext);
    return h("div", { class: "rc-place" }, [
      h("div", {
        ref: "map",
        class: "rc-place-map",
        role: "application",
        tabindex: 0,
        "aria-label": words.place_help,
        "data-testid": "place-map",
        onKeydown: (event) => event.key === "Enter" && (event.preventDefault(), this.put(this.map.getCenter())),
      }),
      phone ? h("button", { class: "rc-button", type: "button", "data-testid": "place-here", onClick: () => this.here() }, words.place_here) : null,
      h("p", { class: "rc-quiet", role: "status", "data-testid": "place-said" }, this.failed ? words.place_no_map : this.said || words.place_help),
    ]);
  },

  async mounted() {
    this.$refs.map.lookAt = (lon, lat, zoom) => this.map.setView([lat, lon], zoom);
    await this.$nextTick();
    await this.style();
    this.map = L.map(this.$refs.map, { attributionControl: false, zoomAnimation: false, preferCanvas: true, maxZoom: 18, minZoom: 3 });
    this.map.setView([23.0, 113.1], 11);
    L.control.scale({ imperial: false }).addTo(this.map);
    this.map.on("click", (event) => this.put(event.latlng));
    this.map.on("zoomend", () => this.$refs.map.classList.toggle("rc-place-far", this.map.getZoom() < NAMES_FROM));
    this.watcher = new ResizeObserver(() => this.map.invalidateSize({ pan: false }));
    this.watcher.observe(this.$refs.map);
    try {
      await this.water();
    } catch (error) {
      console.warn("the rivers could not be fetched:", error);
      this.failed = true;
    }
  },

  beforeUnmount() {
    this.watcher?.disconnect();
    this.map?.remove();
  },

  methods: {
    style() {
      return new Promise((done) => {
        const link = document.createElement("link");
        link.rel = "stylesheet";
        link.href = `${window.path_prefix ?? ""}${this.resourcePath}/leaflet/leaflet.css`;
        link.onload = link.onerror = done;
        document.head.append(link);
      });
    },

    async water() {
      const answer = await fetch(`${window.path_prefix ?? ""}${this.reaches}`, { headers: { Accept: "application/geo+json" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const rivers = await answer.json();
      L.geoJSON(rivers, { interactive: false, style: { color: DARK, weight: 8 } }).addTo(this.map);
      const lines = L.geoJSON(rivers, {
        interactive: false,
        style: { color: WATER, weight: 5 },
        onEachFeature: ({ properties }, layer) =>
          layer.bindTooltip(text(this.language === "en" ? properties.en : properties.zh), { permanent: true, direction: "center", className: "rc-place-name" }),
      }).addTo(this.map);
      if (lines.getBounds().isValid() && !this.place) this.map.fitBounds(lines.getBounds(), { padding: [16, 16], maxZoom: 15 });
    },

    put({ lat, lng }, metres = 0) {
      this.place = [lat, lng];
      this.marker?.remove();
      this.marker = L.circleMarker(this.place, { radius: 10, weight: 4, color: "#fff", fillColor: MARK, fillOpacity: 1, interactive: false }).addTo(this.map);
      if (this.map.getZoom() < NEAR) this.map.setView(this.place, NEAR);
      this.said = metres ? this.words.place_here_done.replace("{m}", metres) : this.words.place_done;
      this.$emit("placed", { lon: Number(lng.toFixed(6)), lat: Number(lat.toFixed(6)) });
    },

    here() {
      this.said = this.words.place_wait;
      navigator.geolocation.getCurrentPosition(
        ({ coords }) => {
          const at = { lat: coords.latitude, lng: coords.longitude };
          this.map.setView([at.lat, at.lng], 16);
          this.put(at, Math.round(coords.accuracy));
        },
        () => (this.said = this.words.place_fail),
        { enableHighAccuracy: true, timeout: 15000 },
      );
    },
  },
};
