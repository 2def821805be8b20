package har_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/clonegate/clonegate/proxy/har"
)

// The page of Chromium's developer tools, and what its network panel does with a
// file that is dropped on it: the same two calls, whose result is what the panel
// shows. It gives every address the port 80.
const (
	developerTools = "devtools://devtools/bundled/devtools_app.html"
	importer       = `import('./models/har/har.js').then(({HARFormat, Importer}) => {
		const log = new HARFormat.HARRoot(%s).log;
		return Importer.Importer.requestsFromHARLog(log).map(r => ({
			URL: r.url(), Method: r.requestMethod, Status: r.statusCode, Text: r.statusText,
			Size: r.resourceSize, Started: r.issueTime(), Took: r.duration * 1000, Remote: r.remoteAddress().replace(/:80$/, ''),
		}));
	})`
)

// A shown is one line of the network panel.
type shown struct {
	URL, Method, Text, Remote string
	Status, Size              int
	Started, Took             float64 // seconds since 1970, milliseconds
}

// TestDeveloperToolsImport lets a real Chromium's developer tools import an
// archive, and refuse one that is broken.
func TestDeveloperToolsImport(t *testing.T) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("NOT TESTED: no browser has imported an archive: %v; install chromium", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx, cancel = chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("no-sandbox", os.Geteuid() == 0))...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(developerTools)); err != nil {
		t.Fatalf("chromium opens no developer tools: %v", err)
	}
	imported := func(archive string) ([]shown, error) {
		return chromedp.Run(ctx, chromedp.Evaluate[[]shown](fmt.Sprintf(importer, archive), chromedp.EvalAwaitPromise))
	}

	var b bytes.Buffer
	if err := har.Write(&b, har.Origin{Version: "1.0", Port: "8443"}, records()); err != nil {
		t.Fatal(err)
	}
	got, err := imported(b.String())
	if err != nil {
		t.Fatal(err)
	}
	began := float64(started.UnixMicro()) / 1e6
	want := []shown{
		{URL: "https://www-1234.zone:8443/a?b=*&*", Method: "POST", Status: 201, Text: "Created", Size: 5120, Started: began, Took: 12.345, Remote: "fd00::1"},
		{URL: "https://www-1234.zone:8443/*", Method: "OPTIONS", Status: 503, Text: "Service Unavailable", Started: began, Took: 0.4},
		{URL: "http://www-1234.zone/", Method: "GET", Status: 301, Text: "Moved Permanently", Started: began},
	}
	if len(got) != len(want) {
		t.Fatalf("%d requests were imported, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if math.Abs(g.Started-w.Started) < 0.001 && math.Abs(g.Took-w.Took) < 0.001 {
			g.Started, g.Took = w.Started, w.Took // as exactly as the panel keeps time
		}
		if g != w {
			t.Errorf("request %d is shown as\n%+v, want\n%+v", i, g, w)
		}
	}
	broken := strings.Replace(b.String(), `"startedDateTime"`, `"started"`, 1)
	if !json.Valid([]byte(broken)) || broken == b.String() {
		t.Fatal("the archive is not broken as it should be")
	}
	if got, err := imported(broken); err == nil {
		t.Errorf("an archive without a time was imported as %+v", got)
	}
}
