package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/clonegate/clonegate/cmd/clonegate/config"
	"github.com/clonegate/clonegate/cmd/clonegate/daemon"
)

const serveHelp = `Run the gateway: https for every clone, DNS, the registry and its API, and the
clones that this machine makes, in one process.

The configuration is one YAML file; clonegate serve --print-config prints every
key with its meaning. An environment variable CLONEGATE_<KEY>, as in
CLONEGATE_GATEWAY_LISTEN, overrides the file, and --set overrides both.

The first start makes the data directory, an internal CA and an admin token in
it. SIGTERM lets open requests finish, leaves clones running, and exits with 0.`

func newServe(a *app) *cobra.Command {
	var file string
	var set []string
	var printConfig bool
	cmd := &cobra.Command{
		Use:   "serve [--config FILE] [--set KEY=VALUE]...",
		Short: "Run the gateway",
		Long:  serveHelp,
		Example: `  clonegate serve --config /etc/clonegate/clonegate.yaml
  clonegate serve --set zone=test-envs.example.com --set gateway.listen=:8443 --set gateway.redirect=off`,
		Args: wantArgs(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, unused, err := a.loadConfig(file, set, printConfig)
			if err != nil {
				return err
			}
			if printConfig {
				_, err := fmt.Fprint(a.stdout, cfg)
				return err
			}
			log := daemon.NewLog(a.stderr, cfg.Log)
			for _, name := range unused {
				log.Warn("environment variable is no setting of this program", "name", name)
			}
			d, err := daemon.Open(cmd.Context(), daemon.Options{Config: cfg, Version: buildVersion(), Log: log})
			if err != nil && cmd.Context().Err() != nil {
				log.Info("stopped before everything was open", "err", err)
				return nil // as asked, by a signal
			}
			if err != nil {
				return err
			}
			return d.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `FILE`; default: none, every key has its default")
	cmd.Flags().StringArrayVar(&set, "set", nil, "set one key of the configuration, as in gateway.listen=:8443 (`KEY=VALUE`); may be repeated")
	cmd.Flags().BoolVar(&printConfig, "print-config", false, "print the configuration that results, every key explained, and exit")
	return cmd
}

// loadConfig reads the configuration. --data is short for --set data=DIR;
// draft is as in config.Sources.
func (a *app) loadConfig(file string, set []string, draft bool) (*config.Config, []string, error) {
	if a.data != "" {
		set = append([]string{"data=" + a.data}, set...)
	}
	return config.Load(config.Sources{File: file, Env: a.env, Set: set, Draft: draft})
}
