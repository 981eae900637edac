package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
)

// Example loads a file over defaults and lets a flag have the last word.
func Example() {
	dir, err := os.MkdirTemp("", "config")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "app.yml")
	if err := os.WriteFile(file, []byte("projectName: goms\ntimeout: 5s\n"), 0o600); err != nil {
		panic(err)
	}

	cfg := struct {
		ProjectName string        `yaml:"projectName"`
		HTTPPort    int           `yaml:"httpPort"`
		Timeout     time.Duration `yaml:"timeout"`
		Key         string        `yaml:"key" secret:"true"`
	}{HTTPPort: 8080, Timeout: time.Second, Key: "swordfish"}

	flags := pflag.NewFlagSet("app", pflag.ContinueOnError)
	port := flags.Int("http_port", 0, "HTTP port")
	if err := config.ParseFlags(flags, []string{"-http_port", "9080"}); err != nil {
		panic(err)
	}
	err = config.Load(file, &cfg, config.Options{EnvPrefix: "APP_", Apply: func() {
		if flags.Changed("http_port") {
			cfg.HTTPPort = *port
		}
	}})
	if err != nil {
		panic(err)
	}
	if err := config.Dump(os.Stdout, cfg); err != nil {
		panic(err)
	}
	// Output:
	// projectName: goms
	// httpPort: 9080
	// timeout: 5s
	// key: '***'
}

func ExampleErrors() {
	all := config.Errors{{File: "configs/services.yml", Line: 7, Key: "services.user.login.pth", Msg: `unknown key (did you mean "path"?)`}}
	err := error(&all)
	if all, ok := errors.AsType[*config.Errors](err); ok {
		for _, e := range *all {
			fmt.Println(e.Line, e.Key)
		}
	}
	fmt.Println(err)
	// Output:
	// 7 services.user.login.pth
	// configs/services.yml:7: services.user.login.pth: unknown key (did you mean "path"?)
}

func ExampleParseFlags() {
	flags := pflag.NewFlagSet("gateway", pflag.ContinueOnError)
	flags.Int("http_port", 8080, "HTTP port")
	fmt.Println(config.ParseFlags(flags, []string{"-http_prot", "8081"}))
	// Output: unknown flag -http_prot (did you mean -http_port?)
}

func ExampleSplitAddrs() {
	fmt.Printf("%q\n", config.SplitAddrs("127.0.0.1:2379|127.0.0.1:2380, etcd:2379"))
	// Output: ["127.0.0.1:2379" "127.0.0.1:2380" "etcd:2379"]
}

func ExampleSuggest() {
	fmt.Println(config.Suggest("servcies", []string{"projectName", "services", "etcdAddr"}))
	// Output: services
}
