"""Models elsewhere that answer for departments: any endpoint that speaks OpenAI's protocol."""
