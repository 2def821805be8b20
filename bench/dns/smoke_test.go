package main

import (
	"testing"

	"github.com/clonegate/clonegate/bench/lab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m, bench()) }

func TestSmoke(t *testing.T) { labtest.Smoke(t, bench()) }
