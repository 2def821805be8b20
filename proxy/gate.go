package proxy

import "sync"

// A gate lets requests in until it is shut, and then waits for those inside.
type gate struct {
	mu     sync.Mutex
	inside int           // guarded by mu
	shut   chan struct{} // guarded by mu; nil while open, closed once empty
}

// enter counts a request in; false means that the gate is shut.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.shut != nil {
		close(g.shut)
	}
}

// close shuts the gate and waits until nobody is inside. It is called once.
func (g *gate) close() {
	g.mu.Lock()
	empty := make(chan struct{})
	g.shut = empty
	if g.inside == 0 {
		close(empty)
	}
	g.mu.Unlock()
	<-empty
}
