// No inline script: the page's Content-Security-Policy lets none run.
SwaggerUIBundle({
  url: document.querySelector("meta[name=openapi]").content,
  dom_id: "#swagger-ui",
  deepLinking: true,
  // What is shown has no servers of its own, and nobody else is to validate it.
  validatorUrl: null,
});
