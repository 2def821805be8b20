package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/clonegate/clonegate/examples/shop"
)

// Times of a live connection.
const (
	pingEvery    = 20 * time.Second // below the idle deadline of any gateway
	writeTimeout = 10 * time.Second // for one message to a browser
	watchAgain   = 500 * time.Millisecond
)

// liveOrders pushes what happens in the shop over a WebSocket, one JSON object
// for each event. A page that reconnects gives the last number it has seen as
// "after" and misses nothing. Pages of other origins get 403.
func (f *Front) liveOrders(w http.ResponseWriter, r *http.Request) {
	f.live.Add(1)
	defer f.live.Done()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{f.WWW}})
	if err != nil {
		f.Log.Info("websocket refused", "origin", r.Header.Get("Origin"), "err", err)
		return // Accept has answered
	}
	defer conn.CloseNow()

	after, _ := strconv.ParseUint(r.FormValue("after"), 10, 64) // unreadable: from now on
	ctx, cancel := context.WithCancel(conn.CloseRead(r.Context()))
	defer cancel()
	go ping(ctx, conn)
	go f.sayGoodbye(ctx, cancel, conn)
	f.push(ctx, conn, after)
}

// push writes events until the browser goes. When the feed behind it breaks
// it goes on from the last event, through another API instance if need be.
func (f *Front) push(ctx context.Context, conn *websocket.Conn, after uint64) {
	started := false
	for {
		for e, err := range f.API.Watch(ctx, after) {
			if err != nil {
				break
			}
			if start := e.Order == nil && e.Review == nil; start && started {
				continue
			}
			if err := send(ctx, conn, e); err != nil {
				return
			}
			started, after = true, e.Seq
		}
		select {
		case <-time.After(watchAgain):
		case <-ctx.Done():
			return
		}
	}
}

func send(ctx context.Context, conn *websocket.Conn, e shop.Event) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return wsjson.Write(ctx, conn, e)
}

// sayGoodbye ends a connection in good order when the front stops.
func (f *Front) sayGoodbye(ctx context.Context, cancel context.CancelFunc, conn *websocket.Conn) {
	select {
	case <-f.Stop:
		conn.Close(websocket.StatusGoingAway, "shutting down")
		cancel()
	case <-ctx.Done():
	}
}

// ping finds out about browsers that have gone without a word.
func ping(ctx context.Context, conn *websocket.Conn) {
	for {
		select {
		case <-time.After(pingEvery):
		case <-ctx.Done():
			return
		}
		pong, cancel := context.WithTimeout(ctx, writeTimeout)
		err := conn.Ping(pong)
		cancel()
		if err != nil {
			conn.CloseNow()
			return
		}
	}
}
