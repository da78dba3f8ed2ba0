package proxy

import (
	"container/list"
	"net"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/wire"
)

// greeting is the clients that have not logged in yet, in the order they came. Proxy.mu guards it. The zero value is
// empty.
type greeting struct {
	places map[net.Conn]*list.Element
	order  list.List // of net.Conn
}

func (g *greeting) add(nc net.Conn) {
	if g.places == nil {
		g.places = make(map[net.Conn]*list.Element)
	}
	g.places[nc] = g.order.PushBack(nc)
}

func (g *greeting) remove(nc net.Conn) {
	if place := g.places[nc]; place != nil {
		g.order.Remove(place)
		delete(g.places, nc)
	}
}

// mayGreet counts a client in that has not logged in. As many may knock as may be in; one more takes the place of the one
// that has knocked the longest, so that connections that say nothing keep nobody out.
func (p *Proxy) mayGreet(nc net.Conn) bool {
	limit := p.face.Load().cfg.Pool.MaxClients
	var longest net.Conn
	p.mu.Lock()
	if p.draining {
		p.mu.Unlock()
		return false
	}
	if limit > 0 && p.greeting.order.Len() >= limit {
		longest = p.greeting.order.Front().Value.(net.Conn)
		p.greeting.remove(longest)
	}
	p.greeting.add(nc)
	p.mu.Unlock()
	if longest != nil {
		p.turnAway(longest, wire.Fatal(wire.CodeTooManyConnections, "sorry, too many clients already"))
	}
	return true
}

func (p *Proxy) greeted(nc net.Conn) {
	p.mu.Lock()
	p.greeting.remove(nc)
	p.mu.Unlock()
}

// turnAway tells a client that has not logged in why it has to go.
func (p *Proxy) turnAway(nc net.Conn, e *wire.Error) {
	p.log.Info("turned away before login", zap.String("client", nc.RemoteAddr().String()), zap.Error(e))
	_ = nc.SetDeadline(time.Now().Add(time.Second))
	_, _ = nc.Write(e.Append(nil))
	_ = nc.Close()
}
