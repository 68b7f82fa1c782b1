package peers

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// sarifModule carries the published schema of SARIF 2.1.0 in its tests. tools/lint requires it, so it is there where the linters are.
const sarifModule = "github.com/securego/gosec/v2"

// SARIFSchema gives the JSON schema of SARIF 2.1.0 as its committee published it (OASIS, errata 01).
func SARIFSchema(t testing.TB) []byte {
	t.Helper()
	const install = "go mod download, in tools/lint"
	lint := filepath.Join(moduleRoot(t), "tools", "lint")
	version := required(t, filepath.Join(lint, "go.mod"), sarifModule)
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", sarifModule+"@"+version)
	cmd.Dir = lint
	out, err := cmd.Output()
	var module struct{ Dir string }
	if err != nil || json.Unmarshal(out, &module) != nil || module.Dir == "" {
		lack(t, sarifModule, install)
	}
	text, err := os.ReadFile(filepath.Join(module.Dir, "report", "sarif", "testdata", "sarif-schema-2.1.0.json"))
	if err != nil {
		lack(t, "the schema of SARIF", install)
	}
	return text
}
