package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/apikey"
	"github.com/keywright/keywright/internal/config"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/rotation"
	"github.com/keywright/keywright/internal/store"
)

// Look is what the inventory says about the versions of a plan.
type Look struct {
	Owner string          `json:"owner,omitempty"`
	Due   time.Time       `json:"due,omitzero"`
	Old   *apikey.Version `json:"old,omitempty"`
	// New is the version that a rollback brings back, or the spare that would be taken as things stand.
	New    *apikey.Version  `json:"new,omitempty"`
	Spares []apikey.Version `json:"spares,omitempty"`
	Backup *apikey.Version  `json:"backup,omitempty"`
}

// Candidates says in words what an emergency would choose from.
func (l Look) Candidates() string {
	var parts []string
	for _, v := range l.Spares {
		parts = append(parts, fmt.Sprintf("spare %s", v.Fingerprint()))
	}
	if l.Backup != nil {
		parts = append(parts, fmt.Sprintf("%s of %s, lent", l.Backup.Fingerprint(), l.Backup.Key))
	}
	if len(parts) == 0 {
		return "nothing: there is no spare and no backup"
	}
	return "the first that the provider accepts: " + strings.Join(parts, ", ")
}

// Look reads what the inventory says about a plan.
func (a *App) Look(ctx context.Context, p rotation.Plan) (Look, error) {
	l := Look{}
	k, err := a.key(p.Key)
	if err != nil {
		return l, err
	}
	l.Owner = k.Owner
	err = a.Store.View(ctx, func(tx *store.Tx) error {
		versions, err := tx.Versions(p.Key)
		if err != nil {
			return err
		}
		for i := range versions {
			v := &versions[i]
			switch {
			case v.ID == p.Old:
				l.Old = v
			case v.ID == p.New:
				l.New = v
			case v.State == apikey.Spare && !v.Compromised:
				l.Spares = append(l.Spares, *v)
			}
		}
		if p.Backup == "" {
			return nil
		}
		backups, err := tx.Versions(p.Backup)
		for i := range backups {
			if backups[i].State == apikey.Current {
				l.Backup = &backups[i]
			}
		}
		return err
	})
	if l.Old != nil {
		l.Due = policy.Due(a.class(k), l.Old.Activated, l.Old.Expires)
	}
	if l.New == nil && len(l.Spares) > 0 {
		l.New = &l.Spares[0]
	}
	return l, err
}

// class gives the class of a key with the key's own intervals.
func (a *App) class(k *config.Key) apikey.Class {
	c := a.Config.Classes[k.Class].APIKey()
	c.Environment, c.RotateEvery, c.Soak, c.Watch, c.HealthWait, c.Approvals = k.Environment, k.RotateEvery, k.Soak, k.Watch, k.HealthWait, k.Approvals
	return c
}
