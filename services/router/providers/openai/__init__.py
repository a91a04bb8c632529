"""What speaks OpenAI's API, as it is or with a vendor's own spelling."""
