"""The chat page and the API's reference page, as files."""
