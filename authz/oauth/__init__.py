"""Speaking OAuth 2.0 and OpenID Connect with an identity provider."""
