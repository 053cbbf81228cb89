"use strict";
const byId = (id) => document.getElementById(id);
// The token stands after # in the link, which no server or proxy sees; nor shall the history.
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/api/v1/setup", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token, name: byId("name").value, password: byId("password").value }),
  });
  const body = await answer.json();
  byId("outcome").textContent = answer.ok ? `${body.name} is there now. ${body.note}` : body.detail;
  if (answer.ok) byId("form").remove();
});
