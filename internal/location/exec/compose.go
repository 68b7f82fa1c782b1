package exec

import "github.com/keywright/keywright/internal/location"

// compose gives d exactly the methods of its abilities: what a driver can do is found by assertion, and a method that says
// that it cannot is not allowed. Go has no types made at run time, hence one line for each set; TestAbilities compares
// every line with its set.
func compose(d *driver, can ability) location.Driver {
	switch can {
	case canRead:
		return struct {
			*driver
			reader
		}{d, reader{d}}
	case canStage:
		return struct {
			*driver
			stager
		}{d, stager{d}}
	case canRead | canStage:
		return struct {
			*driver
			reader
			stager
		}{d, reader{d}, stager{d}}
	case canRemove:
		return struct {
			*driver
			remover
		}{d, remover{d}}
	case canRead | canRemove:
		return struct {
			*driver
			reader
			remover
		}{d, reader{d}, remover{d}}
	case canStage | canRemove:
		return struct {
			*driver
			stager
			remover
		}{d, stager{d}, remover{d}}
	case canRead | canStage | canRemove:
		return struct {
			*driver
			reader
			stager
			remover
		}{d, reader{d}, stager{d}, remover{d}}
	case canReload:
		return struct {
			*driver
			reloader
		}{d, reloader{d}}
	case canRead | canReload:
		return struct {
			*driver
			reader
			reloader
		}{d, reader{d}, reloader{d}}
	case canStage | canReload:
		return struct {
			*driver
			stager
			reloader
		}{d, stager{d}, reloader{d}}
	case canRead | canStage | canReload:
		return struct {
			*driver
			reader
			stager
			reloader
		}{d, reader{d}, stager{d}, reloader{d}}
	case canRemove | canReload:
		return struct {
			*driver
			remover
			reloader
		}{d, remover{d}, reloader{d}}
	case canRead | canRemove | canReload:
		return struct {
			*driver
			reader
			remover
			reloader
		}{d, reader{d}, remover{d}, reloader{d}}
	case canStage | canRemove | canReload:
		return struct {
			*driver
			stager
			remover
			reloader
		}{d, stager{d}, remover{d}, reloader{d}}
	case canRead | canStage | canRemove | canReload:
		return struct {
			*driver
			reader
			stager
			remover
			reloader
		}{d, reader{d}, stager{d}, remover{d}, reloader{d}}
	case canConfirm:
		return struct {
			*driver
			confirmer
		}{d, confirmer{d}}
	case canRead | canConfirm:
		return struct {
			*driver
			reader
			confirmer
		}{d, reader{d}, confirmer{d}}
	case canStage | canConfirm:
		return struct {
			*driver
			stager
			confirmer
		}{d, stager{d}, confirmer{d}}
	case canRead | canStage | canConfirm:
		return struct {
			*driver
			reader
			stager
			confirmer
		}{d, reader{d}, stager{d}, confirmer{d}}
	case canRemove | canConfirm:
		return struct {
			*driver
			remover
			confirmer
		}{d, remover{d}, confirmer{d}}
	case canRead | canRemove | canConfirm:
		return struct {
			*driver
			reader
			remover
			confirmer
		}{d, reader{d}, remover{d}, confirmer{d}}
	case canStage | canRemove | canConfirm:
		return struct {
			*driver
			stager
			remover
			confirmer
		}{d, stager{d}, remover{d}, confirmer{d}}
	case canRead | canStage | canRemove | canConfirm:
		return struct {
			*driver
			reader
			stager
			remover
			confirmer
		}{d, reader{d}, stager{d}, remover{d}, confirmer{d}}
	case canReload | canConfirm:
		return struct {
			*driver
			reloader
			confirmer
		}{d, reloader{d}, confirmer{d}}
	case canRead | canReload | canConfirm:
		return struct {
			*driver
			reader
			reloader
			confirmer
		}{d, reader{d}, reloader{d}, confirmer{d}}
	case canStage | canReload | canConfirm:
		return struct {
			*driver
			stager
			reloader
			confirmer
		}{d, stager{d}, reloader{d}, confirmer{d}}
	case canRead | canStage | canReload | canConfirm:
		return struct {
			*driver
			reader
			stager
			reloader
			confirmer
		}{d, reader{d}, stager{d}, reloader{d}, confirmer{d}}
	case canRemove | canReload | canConfirm:
		return struct {
			*driver
			remover
			reloader
			confirmer
		}{d, remover{d}, reloader{d}, confirmer{d}}
	case canRead | canRemove | canReload | canConfirm:
		return struct {
			*driver
			reader
			remover
			reloader
			confirmer
		}{d, reader{d}, remover{d}, reloader{d}, confirmer{d}}
	case canStage | canRemove | canReload | canConfirm:
		return struct {
			*driver
			stager
			remover
			reloader
			confirmer
		}{d, stager{d}, remover{d}, reloader{d}, confirmer{d}}
	case canRead | canStage | canRemove | canReload | canConfirm:
		return struct {
			*driver
			reader
			stager
			remover
			reloader
			confirmer
		}{d, reader{d}, stager{d}, remover{d}, reloader{d}, confirmer{d}}
	case canProbe:
		return struct {
			*driver
			prober
		}{d, prober{d}}
	case canRead | canProbe:
		return struct {
			*driver
			reader
			prober
		}{d, reader{d}, prober{d}}
	case canStage | canProbe:
		return struct {
			*driver
			stager
			prober
		}{d, stager{d}, prober{d}}
	case canRead | canStage | canProbe:
		return struct {
			*driver
			reader
			stager
			prober
		}{d, reader{d}, stager{d}, prober{d}}
	case canRemove | canProbe:
		return struct {
			*driver
			remover
			prober
		}{d, remover{d}, prober{d}}
	case canRead | canRemove | canProbe:
		return struct {
			*driver
			reader
			remover
			prober
		}{d, reader{d}, remover{d}, prober{d}}
	case canStage | canRemove | canProbe:
		return struct {
			*driver
			stager
			remover
			prober
		}{d, stager{d}, remover{d}, prober{d}}
	case canRead | canStage | canRemove | canProbe:
		return struct {
			*driver
			reader
			stager
			remover
			prober
		}{d, reader{d}, stager{d}, remover{d}, prober{d}}
	case canReload | canProbe:
		return struct {
			*driver
			reloader
			prober
		}{d, reloader{d}, prober{d}}
	case canRead | canReload | canProbe:
		return struct {
			*driver
			reader
			reloader
			prober
		}{d, reader{d}, reloader{d}, prober{d}}
	case canStage | canReload | canProbe:
		return struct {
			*driver
			stager
			reloader
			prober
		}{d, stager{d}, reloader{d}, prober{d}}
	case canRead | canStage | canReload | canProbe:
		return struct {
			*driver
			reader
			stager
			reloader
			prober
		}{d, reader{d}, stager{d}, reloader{d}, prober{d}}
	case canRemove | canReload | canProbe:
		return struct {
			*driver
			remover
			reloader
			prober
		}{d, remover{d}, reloader{d}, prober{d}}
	case canRead | canRemove | canReload | canProbe:
		return struct {
			*driver
			reader
			remover
			reloader
			prober
		}{d, reader{d}, remover{d}, reloader{d}, prober{d}}
	case canStage | canRemove | canReload | canProbe:
		return struct {
			*driver
			stager
			remover
			reloader
			prober
		}{d, stager{d}, remover{d}, reloader{d}, prober{d}}
	case canRead | canStage | canRemove | canReload | canProbe:
		return struct {
			*driver
			reader
			stager
			remover
			reloader
			prober
		}{d, reader{d}, stager{d}, remover{d}, reloader{d}, prober{d}}
	case canConfirm | canProbe:
		return struct {
			*driver
			confirmer
			prober
		}{d, confirmer{d}, prober{d}}
	case canRead | canConfirm | canProbe:
		return struct {
			*driver
			reader
			confirmer
			prober
		}{d, reader{d}, confirmer{d}, prober{d}}
	case canStage | canConfirm | canProbe:
		return struct {
			*driver
			stager
			confirmer
			prober
		}{d, stager{d}, confirmer{d}, prober{d}}
	case canRead | canStage | canConfirm | canProbe:
		return struct {
			*driver
			reader
			stager
			confirmer
			prober
		}{d, reader{d}, stager{d}, confirmer{d}, prober{d}}
	case canRemove | canConfirm | canProbe:
		return struct {
			*driver
			remover
			confirmer
			prober
		}{d, remover{d}, confirmer{d}, prober{d}}
	case canRead | canRemove | canConfirm | canProbe:
		return struct {
			*driver
			reader
			remover
			confirmer
			prober
		}{d, reader{d}, remover{d}, confirmer{d}, prober{d}}
	case canStage | canRemove | canConfirm | canProbe:
		return struct {
			*driver
			stager
			remover
			confirmer
			prober
		}{d, stager{d}, remover{d}, confirmer{d}, prober{d}}
	case canRead | canStage | canRemove | canConfirm | canProbe:
		return struct {
			*driver
			reader
			stager
			remover
			confirmer
			prober
		}{d, reader{d}, stager{d}, remover{d}, confirmer{d}, prober{d}}
	case canReload | canConfirm | canProbe:
		return struct {
			*driver
			reloader
			confirmer
			prober
		}{d, reloader{d}, confirmer{d}, prober{d}}
	case canRead | canReload | canConfirm | canProbe:
		return struct {
			*driver
			reader
			reloader
			confirmer
			prober
		}{d, reader{d}, reloader{d}, confirmer{d}, prober{d}}
	case canStage | canReload | canConfirm | canProbe:
		return struct {
			*driver
			stager
			reloader
			confirmer
			prober
		}{d, stager{d}, reloader{d}, confirmer{d}, prober{d}}
	case canRead | canStage | canReload | canConfirm | canProbe:
		return struct {
			*driver
			reader
			stager
			reloader
			confirmer
			prober
		}{d, reader{d}, stager{d}, reloader{d}, confirmer{d}, prober{d}}
	case canRemove | canReload | canConfirm | canProbe:
		return struct {
			*driver
			remover
			reloader
			confirmer
			prober
		}{d, remover{d}, reloader{d}, confirmer{d}, prober{d}}
	case canRead | canRemove | canReload | canConfirm | canProbe:
		return struct {
			*driver
			reader
			remover
			reloader
			confirmer
			prober
		}{d, reader{d}, remover{d}, reloader{d}, confirmer{d}, prober{d}}
	case canStage | canRemove | canReload | canConfirm | canProbe:
		return struct {
			*driver
			stager
			remover
			reloader
			confirmer
			prober
		}{d, stager{d}, remover{d}, reloader{d}, confirmer{d}, prober{d}}
	case canRead | canStage | canRemove | canReload | canConfirm | canProbe:
		return struct {
			*driver
			reader
			stager
			remover
			reloader
			confirmer
			prober
		}{d, reader{d}, stager{d}, remover{d}, reloader{d}, confirmer{d}, prober{d}}
	}
	return d
}
