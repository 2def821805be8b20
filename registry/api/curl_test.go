package api_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clonegate/clonegate/registry/api"
)

// The startup script of a clone has nothing but curl and a shell. This is the
// life of one, word for word.
const script = `
set -eu
header="Authorization: Bearer $(cat "$CLONEGATE_TOKEN_FILE")"
call() { curl -sS --fail-with-body -H "$header" "$@"; }

call -X PUT --json @registration.json "$CLONEGATE_API/v1/clones/$CLONEGATE_ID" > granted.json
call --json "{\"instance\":\"$CLONEGATE_INSTANCE\"}" "$CLONEGATE_API/v1/clones/$CLONEGATE_ID/renew" > renewed.json
call "$CLONEGATE_API/v1/clones?owner=ada" > listed.json
call -X DELETE "$CLONEGATE_API/v1/clones/$CLONEGATE_ID?instance=$CLONEGATE_INSTANCE" > ended.json
if call --json "{\"instance\":\"$CLONEGATE_INSTANCE\"}" "$CLONEGATE_API/v1/clones/$CLONEGATE_ID/renew" > late.json; then
	echo "a renewal after the end succeeded" >&2
	exit 1
fi
`

func TestCurl(t *testing.T) {
	d := start(t, nil)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"registration.json": contract,
		"token":             d.secrets[clone] + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "CLONEGATE_API=" + d.url, "CLONEGATE_ID=1234",
		"CLONEGATE_INSTANCE=6f1c", "CLONEGATE_TOKEN_FILE=token",
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	read := func(name string, v any) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, v); err != nil {
			t.Fatalf("%s: %v in %s", name, err, b)
		}
	}
	var granted, renewed api.Grant
	read("granted.json", &granted)
	read("renewed.json", &renewed)
	if granted.URLs["www"] != "https://www-1234."+zone || renewed.Lease != granted.Lease || granted.Lease.RenewEvery != 20 {
		t.Errorf("granted %+v, renewed %+v", granted, renewed)
	}
	var listed api.CloneList
	read("listed.json", &listed)
	if len(listed.Clones) != 1 || listed.Clones[0].ID != "1234" {
		t.Errorf("listed %+v", listed)
	}
	var ended api.Clone
	read("ended.json", &ended)
	if ended.State != "gone" {
		t.Errorf("ended: state %s", ended.State)
	}
	var late api.Problem
	read("late.json", &late)
	if late.Status != 410 || late.Code != "ended" {
		t.Errorf("late renewal: %+v", late)
	}
}

// curl gets to read why 10 MiB were refused.
func TestCurlTooLarge(t *testing.T) {
	d := start(t, nil)
	cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-X", "PUT", "-H", "Authorization: Bearer "+d.secrets[clone], "--json", "@-", d.url+"/v1/clones/1234")
	cmd.Stdin = strings.NewReader(`{"instance":"` + strings.Repeat("a", 10<<20) + `"}`)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	var p api.Problem
	if err := json.Unmarshal(out, &p); err != nil || p.Status != 413 || p.Code != "too-large" {
		t.Errorf("got %s, %v; want a problem of code too-large", out, err)
	}
}
