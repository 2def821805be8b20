//go:build !race

package proxy_test

const raceDetected = false
