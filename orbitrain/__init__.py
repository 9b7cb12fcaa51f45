"""orbitrain: learning across satellites, ground stations and devices."""
