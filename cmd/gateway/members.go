package main

import (
	"net"
	"strings"

	"github.com/goms-io/goms/pkg/registry"
)

// believe makes what stands between etcd and the gateway: which nodes are believed, what operators have set, and the file for a
// start without etcd. It returns what is to be asked of each address that is dialled.
func (p *process) believe() *registry.Trust {
	var own []net.Addr
	for _, ln := range []net.Listener{p.rpc, p.admin, p.plain} {
		if ln != nil {
			own = append(own, ln.Addr())
		}
	}
	for _, f := range p.fronts {
		own = append(own, f.Addr())
	}
	if err := p.config.trust().Check(p.node); err != nil {
		p.log.Warn("gateways and services with the same configuration will not believe this one", "err", err)
	}
	project := p.config.Project
	trust := registry.NewTrust(registry.TrustConfig{Networks: project.NodeNetworks, Self: p.node, Own: own, Log: p.log})
	var file *registry.File
	if path := p.config.Gateway.SnapshotFile; path != "" && p.etcd == nil {
		file = registry.NewFile(strings.ReplaceAll(path, "{projectName}", project.ProjectName), project.ProjectName, p.log)
	}
	p.members = registry.NewMembers(registry.MembersConfig{Source: p.registry, Trust: trust, File: file, Log: p.log})
	return trust
}
