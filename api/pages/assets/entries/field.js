// The field app: what works without a network.
import { begin } from "../js/field/app.js";
import "../js/field/home.js";
import "../js/field/queue.js";
import "../js/field/settings.js";
import "../js/field/work.js";
import { start } from "../js/field/send.js";
import { keepApp } from "../js/field/install.js";

keepApp();
begin().then(start);
