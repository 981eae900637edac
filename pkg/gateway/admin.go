package gateway

import (
	"io"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminHandler serves operators, on a listener of its own: /metrics, /debug/pprof/, /log-level (GET, or
// PUT with debug, info, warn or error as the body), /cluster, /livez and /readyz. Requests that a page
// of another origin makes a browser send are refused, as is a Host that is a name other than localhost.
func (g *Gateway) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /log-level", g.getLevel)
	mux.HandleFunc("PUT /log-level", g.putLevel)
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		status, text := g.ready()
		w.WriteHeader(status)
		io.WriteString(w, text)
	})
	mux.HandleFunc("GET /cluster", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(g.clusterJSON(r.URL.Query().Get("verbose") == "1"))
	})
	return http.NewCrossOriginProtection().Handler(onlyByAddress(mux))
}

// onlyByAddress refuses host names, which a hostile page can point at this address (DNS rebinding).
func onlyByAddress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := strings.ToLower(r.Host)
		if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
			host = host[:i]
		}
		if strings.Trim(host, "0123456789.") != "" && !strings.HasPrefix(host, "[") && host != "localhost" {
			http.Error(w, "ask for this listener by its address, not by a name", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

func (g *Gateway) getLevel(w http.ResponseWriter, _ *http.Request) {
	if g.level == nil {
		http.Error(w, "the log level is fixed", http.StatusNotFound)
		return
	}
	io.WriteString(w, strings.ToLower(g.level.Level().String())+"\n")
}

func (g *Gateway) putLevel(w http.ResponseWriter, r *http.Request) {
	if g.level == nil {
		http.Error(w, "the log level is fixed", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 64))
	if err == nil {
		err = g.level.UnmarshalText([]byte(strings.TrimSpace(string(body))))
	}
	if err != nil {
		http.Error(w, "the body must be debug, info, warn or error", http.StatusBadRequest)
		return
	}
	g.log.Warn("log level changed", "level", g.level.Level().String())
	w.WriteHeader(http.StatusNoContent)
}
