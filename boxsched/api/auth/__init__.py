"""Authentication: tokens, sessions of the page, and answers that end with their token."""
