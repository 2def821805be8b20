package dnsmasq

// Followed returns the files that are read again when they change.
func (c *Config) Followed() []string { return c.followed() }
