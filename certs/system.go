package certs

import (
	"errors"
	"os"
	"os/exec"
	"runtime"

	"github.com/smallstep/truststore"
)

func (t *trust) installSystem() TrustStep {
	if t.inSystem() {
		return TrustStep{Store: "system", Outcome: TrustAlready}
	}
	t.say("adding it to the system's store, " + asRoot())
	if err := truststore.Install(t.cert); err != nil {
		return TrustStep{Store: "system", Outcome: TrustFailed, Detail: reason(err), ByHand: t.systemInstallByHand()}
	}
	return TrustStep{Store: "system", Outcome: TrustDone}
}

func (t *trust) uninstallSystem() TrustStep {
	if runtime.GOOS == "linux" && !t.inSystem() {
		return TrustStep{Store: "system", Outcome: TrustAlready, Detail: "it is not there"}
	}
	t.say("removing it from the system's store, " + asRoot())
	err := truststore.Uninstall(t.cert)
	switch {
	case errors.Is(err, truststore.ErrNotFound):
		return TrustStep{Store: "system", Outcome: TrustAlready, Detail: "it is not there"}
	case err != nil:
		return TrustStep{Store: "system", Outcome: TrustFailed, Detail: reason(err), ByHand: t.systemUninstallByHand()}
	}
	return TrustStep{Store: "system", Outcome: TrustDone}
}

// asRoot says how truststore will reach the system's store.
func asRoot() string {
	if runtime.GOOS == "windows" {
		return "about which Windows asks you"
	}
	_, err := exec.LookPath("sudo")
	switch {
	case os.Geteuid() == 0:
		return "as root"
	case err == nil:
		return "which needs root: sudo may ask for your password"
	}
	return "which needs root; there is no sudo here, so it is tried as you are"
}
