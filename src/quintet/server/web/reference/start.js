// Shows what the server says of itself. No validator elsewhere is asked whether that is well-formed.
SwaggerUIBundle({
  dom_id: "#reference",
  url: "/openapi.json",
  deepLinking: true,
  showCommonExtensions: true,
  showExtensions: true,
  validatorUrl: null,
});
