package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// plenty is a flow-control window that no answer fills.
const plenty = 1 << 30

// HTTP2 asks for Path over one connection with Streams requests at a time.
func HTTP2(w *worker) {
	for w.alive() {
		if err := w.http2(); err != nil {
			w.fail(err)
		}
	}
}

// http2 is the life of one connection.
func (w *worker) http2() error {
	t, err := w.dial(w.id, h2)
	if err != nil {
		return err
	}
	defer t.Close()
	m := newMux(w, t)
	if err := m.start(); err != nil {
		return err
	}
	for {
		f, err := m.framer.ReadFrame()
		if err != nil && m.going && len(m.streams) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("HTTP/2: %w", err)
		}
		if err := m.take(f); err != nil {
			return err
		}
		if m.going && len(m.streams) == 0 {
			return nil
		}
	}
}

// A mux is the client's end of an HTTP/2 connection.
type mux struct {
	*worker
	framer        *http2.Framer
	out           *bufio.Writer
	first, second []byte // header blocks of the first request and of all others
	pace          pacer

	streams map[uint32]*stream
	spare   *stream
	next    uint32 // ID of the next stream
	wide    bool   // as many streams are open as shall be
	going   bool   // no other request follows
	unsaid  uint32 // octets the gateway was not yet given back
}

// A stream is one request on its way.
type stream struct {
	due time.Time
	got int // octets of the body
	err error
}

func newMux(w *worker, c net.Conn) *mux {
	out := bufio.NewWriterSize(c, 16<<10)
	m := &mux{
		worker: w, out: out, framer: http2.NewFramer(out, bufio.NewReaderSize(c, 64<<10)),
		pace: w.pacer(), streams: map[uint32]*stream{}, next: 1,
	}
	m.framer.SetReuseFrames()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, to := range []*[]byte{&m.first, &m.second} { // by the second, the table knows every field
		block.Reset()
		fields := [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", Host(w.id)}, {":path", w.Path}}
		for _, f := range append(fields, browser()...) {
			encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		*to = bytes.Clone(block.Bytes())
	}
	return m
}

// start sends the preface and one request. Others follow when that is
// answered, and the gateway's settings are known.
func (m *mux) start() error {
	io.WriteString(m.out, http2.ClientPreface) // errors stay in m.out until it is flushed
	m.framer.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: plenty})
	m.framer.WriteWindowUpdate(0, plenty)
	return m.ask()
}

// ask sends requests until there are as many as shall be.
func (m *mux) ask() error {
	for {
		s := m.spare
		if m.spare = nil; s == nil {
			s = new(stream)
		}
		*s = stream{due: m.pace.wait()}
		block := m.second
		if m.next == 1 {
			block = m.first
		}
		m.streams[m.next] = s
		m.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: m.next, BlockFragment: block, EndHeaders: true, EndStream: true})
		if m.next += 2; !m.wide || len(m.streams) >= m.Streams {
			return m.out.Flush()
		}
	}
}

// take acts on one frame.
func (m *mux) take(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			m.framer.WriteSettingsAck()
			return m.out.Flush()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			m.framer.WritePing(true, f.Data)
			return m.out.Flush()
		}
	case *http2.GoAwayFrame:
		m.lost()
		if m.going = true; f.ErrCode != http2.ErrCodeNo {
			return fmt.Errorf("HTTP/2: the gateway went away: %s", f.ErrCode)
		}
	case *http2.RSTStreamFrame:
		return m.end(f.StreamID, fmt.Errorf("HTTP/2: stream was reset: %s", f.ErrCode))
	case *http2.HeadersFrame:
		return m.takeHeaders(f)
	case *http2.DataFrame:
		return m.takeData(f)
	}
	return nil
}

func (m *mux) takeHeaders(f *http2.HeadersFrame) error {
	block := f.HeaderBlockFragment()
	for len(block) > 0 && block[0]&0xe0 == 0x20 { // dynamic table size update (RFC 7541, section 6.3)
		block = block[1:]
	}
	const status200 = 0x88 // the indexed field ":status: 200" (RFC 7541, appendix A)
	if s := m.streams[f.StreamID]; s != nil && (len(block) == 0 || block[0] != status200) {
		s.err = errors.New("HTTP/2: the status is not 200")
	}
	if f.StreamEnded() {
		return m.end(f.StreamID, errors.New("HTTP/2: the answer has no body"))
	}
	return nil
}

func (m *mux) takeData(f *http2.DataFrame) error {
	if s := m.streams[f.StreamID]; s != nil {
		if data := f.Data(); len(data) > 0 {
			if s.got == 0 && s.err == nil && !bytes.HasPrefix(data, m.want) {
				s.err = fmt.Errorf("another clone answered: want %s", m.want)
			}
			s.got += len(data)
		}
	}
	if m.unsaid += f.Length; m.unsaid > plenty/4 {
		m.framer.WriteWindowUpdate(0, m.unsaid)
		m.unsaid = 0
		if err := m.out.Flush(); err != nil {
			return err
		}
	}
	if f.StreamEnded() {
		return m.end(f.StreamID, nil)
	}
	return nil
}

// end notes the end of a request and sends the next.
func (m *mux) end(id uint32, err error) error {
	s := m.streams[id]
	if s == nil {
		return nil
	}
	delete(m.streams, id)
	if s.err != nil {
		err = s.err
	}
	if err != nil {
		m.fail(err)
	} else {
		m.answered(s.due)
	}
	m.spare = s
	if m.going = m.going || !m.alive(); m.going {
		return nil
	}
	m.wide = m.Rate == 0 // at a fixed rate, one at a time
	return m.ask()
}
