package daemon

import (
	"context"
	"path/filepath"

	"github.com/clonegate/clonegate/pipeline"
	"github.com/clonegate/clonegate/pipeline/oci"
	"github.com/clonegate/clonegate/pipeline/process"
)

// ProcessProvider is the name of the provider that is always there.
const ProcessProvider = "process"

// openProviders takes over the clones that an earlier daemon left running.
func (d *Daemon) openProviders(context.Context) (err error) {
	d.provider, err = process.New(process.Config{
		Dir:  filepath.Join(d.cfg.Data, "clones"),
		Pool: d.cfg.Providers.Process.Network,
		Log:  d.log.With("room", "pipeline"),
	})
	return err
}

// openLauncher prepares what starts and ends clones of templates.
func (d *Daemon) openLauncher(context.Context) (err error) {
	if d.templates, err = oci.Open(oci.Config{Dir: filepath.Join(d.cfg.Data, "templates")}); err != nil {
		return err
	}
	cfg := pipeline.Config{
		Registry:  d.registry,
		Templates: d.templates,
		Providers: map[string]pipeline.Provider{ProcessProvider: d.provider},
		API:       d.addresses.API.URL,
		Log:       d.log.With("room", "pipeline"),
		Metrics:   d.metrics,
		EndClones: d.endClones,
	}
	if d.certificates.api != nil && d.certificates.root != nil {
		cfg.CAFile = CAFile(d.cfg.Data)
	}
	d.launcher, err = pipeline.New(cfg)
	if err != nil {
		return err
	}
	d.parts = append(d.parts, part{"launcher", d.launcher.Run})
	return nil
}
