package registry_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/goms-io/goms/pkg/registry"
	"github.com/goms-io/goms/pkg/registry/registrytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryContract(t *testing.T) {
	registrytest.Run(t, func(*testing.T) func() registrytest.Registry {
		m := registry.NewMemory()
		return func() registrytest.Registry { return m.Open() }
	})
}
