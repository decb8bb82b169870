"""Publications: manifest, signing, layout, the atomic pointer, secrets."""
