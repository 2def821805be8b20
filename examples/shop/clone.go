package shop

import (
	"cmp"
	"fmt"
	"strings"
)

// A Clone is what a process of the shop knows about the copy of production it
// belongs to. All of it comes from the environment.
type Clone struct {
	ID        string // "1234"
	Host      string // the machine this process is: "api1"
	Address   string // of this machine
	Dir       string // root of the clone's files
	Template  string // "shop@2026.11.21-1"
	DeployTag string
	Owner     string

	getenv func(string) string
}

// CloneFromEnv reads the clone from the environment. CLONEGATE_ADDRESS is
// required; what else a process cannot do without it asks for by Need.
func CloneFromEnv(getenv func(string) string) (*Clone, error) {
	c := &Clone{
		ID:        getenv("CLONEGATE_ID"),
		Host:      getenv("CLONEGATE_HOST"),
		Dir:       cmp.Or(getenv("CLONEGATE_DIR"), "."),
		Template:  getenv("CLONEGATE_TEMPLATE"),
		DeployTag: getenv("CLONEGATE_DEPLOY_TAG"),
		Owner:     getenv("CLONEGATE_OWNER"),
		getenv:    getenv,
	}
	var err error
	c.Address, err = c.Need("CLONEGATE_ADDRESS")
	return c, err
}

// Need returns a variable of the environment, and an error if it is empty.
func (c *Clone) Need(name string) (string, error) {
	v := c.getenv(name)
	if v == "" {
		return "", fmt.Errorf("%s is not set: the shop runs as a host of a clone (clonegate up shop); see examples/README.md for how to run it by hand", name)
	}
	return v, nil
}

// AddressOf returns the address of another host of the clone.
func (c *Clone) AddressOf(host string) (string, error) {
	return c.Need("CLONEGATE_ADDRESS_" + strings.ToUpper(strings.ReplaceAll(host, "-", "_")))
}

// URL returns the public URL of a service of the clone, without a slash at the end.
func (c *Clone) URL(service string) (string, error) {
	u, err := c.Need("CLONEGATE_URL_" + strings.ToUpper(strings.ReplaceAll(service, "-", "_")))
	return strings.TrimRight(u, "/"), err
}

// Param returns a parameter of the template, "" if it is not given.
func (c *Clone) Param(name string) string {
	return c.getenv("CLONEGATE_PARAM_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
}

// Hue returns a number from 0 to 11 to colour pages by, so that two clones are
// told apart at a glance. Neighbouring IDs get colours that lie far apart.
func (c *Clone) Hue() int {
	h := 0
	for _, b := range []byte(c.ID) {
		h = (h*7 + int(b)) % 12
	}
	return h * 5 % 12
}
