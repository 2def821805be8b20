//go:build !race

package dnsd

// slowed is by how much the look-out for data races may slow code down.
const slowed = 1
