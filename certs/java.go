package certs

import (
	"errors"
	"os"
	"strings"

	"github.com/smallstep/truststore"
)

func (t *trust) installJava() TrustStep {
	java, step := t.java()
	if java == nil {
		return step
	}
	if java.Exists(t.cert) {
		return TrustStep{Store: "java", Outcome: TrustAlready}
	}
	t.say("Adding it to the store of the Java in " + os.Getenv("JAVA_HOME") + "; if that is not yours, sudo may ask for your password")
	if err := java.Install(t.file, t.cert); err != nil {
		step.Outcome, step.Detail = TrustFailed, reason(err)
		return step
	}
	return TrustStep{Store: "java", Outcome: TrustDone, Detail: t.javaNote()}
}

func (t *trust) uninstallJava() TrustStep {
	java, step := t.java()
	if java == nil || !java.Exists(t.cert) {
		return TrustStep{Store: "java", Outcome: TrustSkipped, Detail: step.Detail}
	}
	t.say("Removing it from the store of the Java in " + os.Getenv("JAVA_HOME"))
	if err := java.Uninstall(t.file, t.cert); err != nil {
		return TrustStep{Store: "java", Outcome: TrustFailed, Detail: reason(err)}
	}
	return TrustStep{Store: "java", Outcome: TrustDone}
}

// java returns the Java that JAVA_HOME names, or nil and the step that says so.
func (t *trust) java() (*truststore.JavaTrust, TrustStep) {
	byHand := []string{"keytool -importcert -noprompt -cacerts -storepass " + truststore.JavaStorePass + " -alias " + quote(t.name) + " -file " + quote(t.file)}
	java, err := truststore.NewJavaTrust()
	if errors.Is(err, truststore.ErrTrustNotFound) {
		return nil, TrustStep{Store: "java", Outcome: TrustSkipped, Detail: "JAVA_HOME names no Java; many Javas read the system's store", ByHand: byHand}
	}
	if err != nil {
		return nil, TrustStep{Store: "java", Outcome: TrustFailed, Detail: reason(err), ByHand: byHand}
	}
	return java, TrustStep{Store: "java", Detail: t.javaNote(), ByHand: byHand}
}

// javaNote warns of what no certificate can mend.
func (t *trust) javaNote() string {
	for _, d := range t.cert.PermittedDNSDomains {
		if strings.Contains(d, "_") {
			return "Java refuses names with an underscore: use an alias of " + d + " with a hyphen"
		}
	}
	return ""
}
