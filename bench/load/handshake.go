package load

import (
	"crypto/tls"
	"fmt"
	"time"
)

// Handshake connects, shakes hands and closes, again and again.
func Handshake(w *worker) {
	w.shakeHands(settings(Host(w.id), h1))
}

// Resume is Handshake with a session that the gateway has issued before.
func Resume(w *worker) {
	cfg := settings(Host(w.id), h1)
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	c, err := w.dialTCP()
	if err != nil {
		w.fail(err)
		return
	}
	// The ticket comes behind the handshake, at the latest with an answer.
	t := tls.Client(c, cfg)
	err = newConn(t).get(request(w.id, Small), w.want)
	c.Close() // without an alert, as what matters is over
	if err != nil {
		w.fail(fmt.Errorf("get a session: %w", err))
		return
	}
	w.shakeHands(cfg)
}

func (w *worker) shakeHands(cfg *tls.Config) {
	for w.alive() {
		start := time.Now()
		c, err := w.dialTCP()
		if err != nil {
			w.fail(err)
			continue
		}
		t, err := shake(c, cfg)
		if err != nil {
			w.fail(err)
			continue
		}
		if resumed := t.ConnectionState().DidResume; resumed != (cfg.ClientSessionCache != nil) {
			w.fail(fmt.Errorf("handshake: resumed is %t", resumed))
		} else {
			w.answered(start)
		}
		t.Close()
	}
}
