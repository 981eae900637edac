package lb

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// state is one generation of a pool: immutable, but for what choice counts and for wake.
type state struct {
	options Options
	nodes   []*Node   // all of them, sorted by ID
	choice  choice    // among the nodes in best standing
	active  []*Node   // those nodes, and the ones that would be but for their zone
	spare   [][]*Node // the rest of the nodes of positive weight, the better ones first; see farTier
	ejected []*Node   // nodes that would be active but for their failures

	// wake is never later than the earliest return of an ejected node.
	wake atomic.Int64
}

// Who stands where in state.spare; the ill follow.
const (
	farTier = iota // active, and of other zones than the choice
	mainTier
	backupTier
	drainingTier
)

// pick returns a node that is neither in tried nor unfit, or nil.
func (st *state) pick(tried []*Node, key uint64, fit fitness) *Node {
	if n := st.well(tried, key, fit); n != nil {
		return n
	}
	for _, tier := range st.spare[mainTier:] {
		if n := idlest(tier, tried, fit); n != nil {
			return n
		}
	}
	return idlest(st.ejected, tried, fit)
}

// well is pick among the active nodes, those of the choice first.
func (st *state) well(tried []*Node, key uint64, fit fitness) *Node {
	if len(tried) > maxTried {
		return idlest(st.active, tried, fit)
	}
	x := exception{n: len(tried), fit: fit}
	copy(x.tried[:], tried)
	if n := st.choice.except(key, x); n != nil {
		return n
	}
	return idlest(st.spare[farTier], tried, fit)
}

// idlest returns the node among nodes that has the fewest attempts in flight of those
// that are fit and not in tried, or nil.
func idlest(nodes, tried []*Node, fit fitness) *Node {
	var best *Node
	for _, n := range nodes {
		if slices.Contains(tried, n) || !fit.admits(n) {
			continue
		}
		if best == nil || n.InFlight() < best.InFlight() {
			best = n
		}
	}
	return best
}

// rebuild makes a new generation out of nodes and their present health. p.mu is held.
func (p *Pool) rebuild(nodes []*Node) {
	o := &p.options
	st := &state{options: *o, nodes: nodes}
	best, spare := arrange(nodes, o.PanicThreshold)
	st.active = st.eject(best)
	near, weights, far := p.split(o, st.active, nodes)
	st.spare = append([][]*Node{far}, spare...)
	s := set{nodes: near, weights: weights, now: p.coarse.Load, typical: p.typical.value.Load}
	if old := p.state.Load(); old != nil {
		s.old = old.choice
	}
	st.choice = o.Policy.build(s)
	p.state.Store(st)
}

// arrange sorts nodes by their standing: the best are those that take the requests, if
// they are not ejected; spare are the others of positive weight, the better ones first.
func arrange(nodes []*Node, panicThreshold int) (best []*Node, spare [][]*Node) {
	var mains, sickMains, backups, sickBackups, draining []*Node
	for _, n := range nodes {
		list := &mains
		switch {
		case n.Weight() <= 0:
			continue
		case n.Draining():
			list = &draining
		case n.Backup() && !n.Healthy():
			list = &sickBackups
		case n.Backup():
			list = &backups
		case !n.Healthy():
			list = &sickMains
		}
		*list = append(*list, n)
	}
	if len(mains) == 0 && len(backups) == 0 {
		// Nobody is healthy: whoever says so may be wrong.
		mains, sickMains = sickMains, nil
		backups, sickBackups = sickBackups, nil
	} else if len(mains) > 0 && doubtful(mains, sickMains, panicThreshold) {
		mains, sickMains = join(mains, sickMains), nil
	} else if len(mains) == 0 && doubtful(backups, sickBackups, panicThreshold) {
		backups, sickBackups = join(backups, sickBackups), nil
	}
	for _, list := range []*[]*Node{&mains, &backups, &draining} {
		if best = *list; len(best) > 0 {
			*list = nil
			break
		}
	}
	return best, [][]*Node{mains, backups, draining, sickMains, sickBackups}
}

// doubtful reports whether too few are healthy for that to be believed.
func doubtful(healthy, sick []*Node, threshold int) bool {
	return len(healthy)*100 < threshold*(len(healthy)+len(sick))
}

// join returns both lists as one, sorted by ID.
func join(a, b []*Node) []*Node {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(a, b *Node) int { return cmp.Compare(a.id, b.id) })
	return all
}

// split says which of the active nodes take part in the choice, with which weights, and
// which stay behind because they are in other zones. nodes is all there are.
func (p *Pool) split(o *Options, active, nodes []*Node) (near []*Node, weights []float64, far []*Node) {
	if len(active) == 0 {
		return nil, nil, nil
	}
	if share := zoneShare(o, active, nodes); share < 1 {
		weights = p.weights(o, active)
		here, away := 0.0, 0.0
		for i, n := range active {
			if n.Zone() == o.Zone {
				here += weights[i]
			} else {
				away += weights[i]
			}
		}
		if here > 0 && away > 0 {
			for i, n := range active {
				if n.Zone() != o.Zone {
					weights[i] *= (1 - share) / share * here / away
				}
			}
		}
		return active, weights, nil
	}
	for _, n := range active {
		if o.Zone != "" && n.Zone() != o.Zone {
			far = append(far, n)
			continue
		}
		near = append(near, n)
	}
	return near, p.weights(o, near), far
}

// zoneShare is the part of all requests that stay in the own zone: by how much of the
// weight that is there, of nodes like the active ones, can be used. active is not empty.
func zoneShare(o *Options, active, nodes []*Node) float64 {
	if o.Zone == "" {
		return 1
	}
	draining := active[0].Draining() // then all are: nobody else is left
	usable, all := 0, 0
	for _, n := range active {
		if n.Zone() == o.Zone {
			usable += n.Weight()
		}
	}
	for _, n := range nodes {
		if n.Zone() == o.Zone && n.Draining() == draining && (draining || n.Backup() == active[0].Backup()) {
			all += n.Weight()
		}
	}
	if usable == 0 {
		return 0
	}
	return min(1, float64(usable)*100/(float64(all)*float64(o.ZoneMinimum)))
}
