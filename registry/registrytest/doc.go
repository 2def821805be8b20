// Package registrytest helps to test what stands on a registry: a Store in
// memory, a Registry over it, and the suite that every Store has to pass.
//
// Nothing but tests imports it.
package registrytest
