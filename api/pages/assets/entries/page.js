import "../js/page.js";
