package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/clonegate/clonegate/registry"
)

// BenchmarkGateway sends small requests one after another over one connection,
// client and clone included, in front of few clones and of many.
func BenchmarkGateway(b *testing.B) {
	for _, clones := range []int{1, 100, 10_000} {
		bench := newBench(b)
		bench.serve("1", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
		for i := range clones - 1 {
			bench.register(registry.ID(fmt.Sprintf("c%d", i)), www("127.0.0.1:9"))
		}
		for name, client := range map[string]*http.Client{"h1": bench.client, "h2": bench.h2} {
			b.Run(fmt.Sprintf("%s/clones=%d", name, clones), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					res, err := client.Get("https://www-1." + zone + "/")
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		}
		bench.stop()
	}
}
