// No validator and no other host is asked for anything.
SwaggerUIBundle({
  url: "doc.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  queryConfigEnabled: false,
});
