"""The description of the API: data, the OpenAPI document, and pages to read."""
