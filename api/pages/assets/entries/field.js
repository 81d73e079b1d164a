// The field app: what works without a network.
import { begin } from "../js/field/app.js";
import "../js/field/home.js";
import { keepApp } from "../js/field/install.js";
import "../js/field/queue.js";
import { send, start } from "../js/field/send.js";
import "../js/field/settings.js";
import { addPhoto, amend, list, save, stateOf } from "../js/field/store.js";
import "../js/field/work.js";

// What is on a phone can be looked at, and brought on its way, from the browser's console.
globalThis.field = { addPhoto, amend, list, save, send, stateOf };

keepApp();
begin().then(start);
