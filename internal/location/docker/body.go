package docker

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
)

// createBody is what the engine takes to make a container.
type createBody map[string]json.RawMessage

// raw encodes v, which is made of plain types.
func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("docker: plain value cannot be encoded")
	}
	return b
}

// like gives the body of a container that is the same as b but for its environment and labels, and that the engine
// does not start by itself. Further networks are joined afterwards: old engines take one.
func like(b box, environment []string, labels map[string]string) (body createBody, further map[string]map[string]json.RawMessage) {
	config := maps.Clone(b.Config)
	all := b.labels()
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, labels)
	config["Env"], config["Labels"] = raw(environment), raw(all)
	mode := get[string](b.HostConfig, "NetworkMode")
	if get[string](config, "Hostname") == b.short() || strings.HasPrefix(mode, "container:") {
		delete(config, "Hostname") // it was made of the container's own id, or is another's
	}
	if strings.HasPrefix(mode, "container:") {
		delete(config, "ExposedPorts")
		delete(config, "Domainname")
	}

	host := maps.Clone(b.HostConfig)
	host["RestartPolicy"] = raw(policy{Name: "no"})
	if links := get[[]string](host, "Links"); len(links) > 0 {
		for i, l := range links { // "/other:/name/alias" is read, "other:alias" is taken
			other, alias, _ := strings.Cut(l, ":")
			links[i] = strings.TrimPrefix(other, "/") + ":" + path.Base(alias)
		}
		host["Links"] = raw(links)
	}
	keepVolumes(b, host)

	body = createBody{}
	maps.Copy(body, config)
	body["HostConfig"] = raw(host)
	further = map[string]map[string]json.RawMessage{}
	if mode == "host" || mode == "none" || strings.HasPrefix(mode, "container:") {
		return body, further
	}
	for name, n := range b.NetworkSettings.Networks {
		endpoint := map[string]json.RawMessage{}
		for _, key := range []string{"IPAMConfig", "Links", "DriverOpts", "GwPriority"} {
			if v, ok := n[key]; ok && string(v) != "null" {
				endpoint[key] = v
			}
		}
		aliases := slices.DeleteFunc(get[[]string](n, "Aliases"), func(a string) bool { return a == b.short() })
		if len(aliases) > 0 {
			endpoint["Aliases"] = raw(aliases)
		}
		if name == mode || get[string](n, "NetworkID") == mode || mode == "default" && name == "bridge" {
			body["NetworkingConfig"] = raw(map[string]any{"EndpointsConfig": map[string]any{name: endpoint}})
			continue
		}
		further[name] = endpoint
	}
	return body, further
}

// keepVolumes names the volumes that the engine made for b without a name, so that the new container gets the same ones.
func keepVolumes(b box, host map[string]json.RawMessage) {
	type mount = map[string]json.RawMessage
	mounts, binds := get[[]mount](host, "Mounts"), get[[]string](host, "Binds")
	for _, m := range b.Mounts {
		if m.Type != "volume" || m.Name == "" {
			continue
		}
		if i := slices.IndexFunc(mounts, func(o mount) bool { return get[string](o, "Target") == m.Destination }); i >= 0 {
			mounts[i]["Source"] = raw(m.Name)
			continue
		}
		if slices.ContainsFunc(binds, func(bind string) bool { return boundTo(bind) == m.Destination }) {
			continue
		}
		bind := m.Name + ":" + m.Destination
		if !m.RW {
			bind += ":ro"
		}
		binds = append(binds, bind)
	}
	if len(mounts) > 0 {
		host["Mounts"] = raw(mounts)
	}
	if len(binds) > 0 {
		host["Binds"] = raw(binds)
	}
}

// boundTo gives the path inside the container of "source:path[:options]".
func boundTo(bind string) string {
	parts := strings.Split(bind, ":")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

// lookup gives the value of a variable in an environment, and how often it is set.
func lookup(environment []string, variable string) (value string, times int) {
	for _, e := range environment {
		if v, ok := strings.CutPrefix(e, variable+"="); ok {
			value = v
			times++
		}
	}
	return value, times
}

// with gives the environment with the variable set, in its old place when it has one.
func with(environment []string, variable, value string) []string {
	out := slices.Clone(environment)
	for i, e := range out {
		if strings.HasPrefix(e, variable+"=") {
			out[i] = variable + "=" + value
			return out
		}
	}
	return append(out, variable+"="+value)
}
