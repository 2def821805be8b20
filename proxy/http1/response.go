package http1

// A Response is the head of a response. It is made for one connection and reset
// for each head on it.
type Response struct {
	Section
	Framing
	Status int  // from 100 to 999
	Phrase Span // the reason phrase; may be empty
	Minor  int  // of the version: 1, or 0 for HTTP/1.0
	Len    int  // octets of the head, once it is complete

	lines lines
	line  bool // the status line was read
}

// Reset prepares for another head and keeps the memory.
func (r *Response) Reset() {
	r.Section.Reset()
	*r = Response{Section: r.Section}
}

// Parse reads the head at the beginning of b; see Request.Parse.
func (r *Response) Parse(b []byte, max int) (done bool, err error) {
	max = min(max, maxHead)
	done, err = r.parse(b[:min(len(b), max)])
	if err == nil && !done && len(b) >= max {
		err = ErrHeadTooLarge
	}
	return done, err
}

func (r *Response) parse(b []byte) (bool, error) {
	r.from(b)
	if !r.line {
		from, to, ok, err := r.lines.next(b)
		if !ok || err != nil {
			return false, err
		}
		if err := r.statusLine(b, from, to); err != nil {
			return false, err
		}
		r.line = true
	}
	done, err := r.Section.parse(b, &r.lines)
	if !done || err != nil {
		return false, err
	}
	r.Len = r.lines.pos
	r.Framing, _, err = r.framing(r.Minor)
	return true, err
}

// statusLine reads b[from:to] (RFC 9112 §4). Servers that leave out the phrase
// often leave out the space before it.
func (r *Response) statusLine(b []byte, from, to int) error {
	const status = len("HTTP/1.1 ")
	line := b[from:to]
	if len(line) < status+3 || line[status-1] != ' ' {
		return ErrStatusLine
	}
	var err error
	if r.Minor, err = parseVersion(line[:status-1]); err == ErrRequestLine {
		return ErrStatusLine
	} else if err != nil {
		return err
	}
	for _, c := range line[status : status+3] {
		if !isDigit(c) {
			return ErrStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 {
		return ErrStatusLine
	}
	phrase := line[status+3:]
	if len(phrase) == 0 {
		return nil
	}
	if phrase[0] != ' ' || !isText(phrase) {
		return ErrStatusLine
	}
	r.Phrase = span(from+status+4, to)
	return nil
}

// Bytes returns a part of the head.
func (r *Response) Bytes(s Span) []byte { return r.Buf[s.From:s.To] }
