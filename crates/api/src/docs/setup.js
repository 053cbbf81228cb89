"use strict";
const byId = (id) => document.getElementById(id);
// The token stands after # in the link, which no server or proxy sees; nor shall the history.
// Of this tab alone, for when the page is loaded again.
if (location.hash) sessionStorage.setItem("setup", location.hash.slice(1));
const token = sessionStorage.getItem("setup") ?? "";
history.replaceState(null, "", location.pathname);
byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (byId("password").value !== byId("again").value) {
    byId("outcome").textContent = "The two passwords differ.";
    return;
  }
  const answer = await fetch("/api/v1/setup", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token, name: byId("name").value, password: byId("password").value }),
  });
  const body = await answer.json();
  byId("outcome").textContent = answer.ok ? `${body.name} is there now. ${body.note}` : body.detail;
  if (answer.ok) {
    sessionStorage.removeItem("setup");
    byId("form").remove();
    byId("next").hidden = false;
  }
});
