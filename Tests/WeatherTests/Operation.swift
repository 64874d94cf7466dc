import Foundation
import Synchronization

/// A command in whose midst something goes wrong, and what must hold then.
enum Operation: String, Sendable, CaseIterable {
    case save, replace, gc, delete, restore, restoreForce, repair

    func makeScene() throws -> Scene {
        let scene = try Scene(deleted: self == .gc)
        if self == .restoreForce { try Self.earlier.write(to: scene.folder + "/restored") }
        return scene
    }

    /// What is at the destination that `restore --force` replaces.
    private static let earlier = Checkpoint(run: 9, step: 9)

    func arguments(_ scene: Scene) -> [String] {
        switch self {
        case .save: scene.saveArguments
        case .replace: ["save", scene.source, "--run", "r", "--step", "20", "--replace", "--json"]
        case .gc: ["gc", "--json"]
        case .delete: ["delete", "r@10", "--json"]
        case .restoreForce: ["restore", "r@30", scene.folder + "/restored", "--force", "--json"]
        case .repair: ["repair", "--json"]
        case .restore: ["restore", "r@30", scene.folder + "/restored", "--json"]
        }
    }

    /// Where its calls are counted.
    func folders(_ scene: Scene) -> [String] {
        switch self {
        case .save, .replace: [scene.store, scene.source]
        case .gc, .delete, .repair: [scene.store]
        case .restore, .restoreForce: [scene.folder]
        }
    }

    func run(_ scene: Scene, _ faults: Faults) throws -> Child.Ending {
        var faults = faults
        faults.under = folders(scene)
        return try scene.cairn(arguments(scene), faults: faults)
    }

    /// The calls that faults of a kind can meet, in order.
    func calls(_ kind: String, _ group: Faults.Calls) throws -> [LoggedCall] {
        let scene = try makeScene()
        let log = scene.folder + "/calls.log"
        let faults = Faults(kind: kind, number: 0, calls: group, under: [], log: log)
        try run(scene, faults).mustSucceed("\(rawValue) with the fault library loaded")
        let calls = LoggedCall.read(log)
        try require(!calls.isEmpty, "no call of \(rawValue) was counted")
        return calls
    }

    /// Runs it once with a fault, and checks how it ends and what it leaves.
    func check(_ faults: Faults) throws {
        let scene = try makeScene()
        var faults = faults
        faults.log = scene.folder + "/calls.log"
        let ending = try run(scene, faults)
        let calls = LoggedCall.read(faults.log!)
        let call = calls.count >= faults.number ? calls[faults.number - 1] : nil
        let place = call.map { "\($0.name) \($0.path.replacingOccurrences(of: scene.folder, with: ""))" }
        do {
            try checkEnding(ending, faults, call, scene)
            try checkState(scene, ending)
        } catch {
            throw Trouble("\(rawValue), call \(place ?? "none"): \(error); it ended with \(ending.summary)")
        }
    }

    private func checkEnding(
        _ ending: Child.Ending, _ faults: Faults, _ call: LoggedCall?, _ scene: Scene
    ) throws {
        if faults.kind.hasPrefix("kill") {
            try require(ending.signal == SIGKILL || call == nil, "was not killed")
        } else if faults.kind == "short", ending.status != 0 {
            // LMDB takes a write that falls short for a failing disk; everybody else goes on with the rest.
            try require(
                ending.status == 1 && call?.path.contains("/store/index/") == true,
                "failed instead of going on with the rest")
            try ending.mustSayOneSentence()
        } else if ending.status == 0 {
            if faults.kind == "short" { return }
            let isExpected = call.map { mayFail($0, faults) } ?? true
            try require(isExpected, "succeeded although a call failed")
        } else {
            // What a disk does not give is weather; bytes that can't be read at all may be reported as damage.
            try require(
                ending.status == 1 || faults.calls == .reading && ending.status == 3,
                "has status \(ending.summary)")
            try ending.mustSayOneSentence()
        }
    }

    /// Calls that a command can do without.
    private func mayFail(_ call: LoggedCall, _ faults: Faults) -> Bool {
        // Reading is tried again, and what can't be read of the index is made anew.
        if faults.calls == .reading { return true }
        // The note of who holds the lock, and the space that is kept for later.
        return call.path.hasSuffix("/locks/commit") || call.path.hasSuffix("/reserve")
            // A cache, which the next save can do without.
            || call.path.contains("/store/fingerprints")
            // A lock file that could not be removed goes with the next restore.
            || call.name == "unlink" && call.path.hasSuffix(".lock")
            // Opening an index that is there is tried again.
            || call.name == "create" && call.path.hasSuffix("/index/data.mdb")
            // With the reserve given up there is space again.
            || faults.kind == "enospc" && (self == .gc || self == .delete)
    }

    private func checkState(_ scene: Scene, _ ending: Child.Ending) throws {
        let isUncertain = ending.signal != nil || ending.error.contains("may or may not")
        switch self {
        case .save:
            if ending.status == 0 { scene.committed.withLock { $0[40] = Scene.next } }
            try scene.checkIntact(maybe: isUncertain ? (40, Scene.next) : nil)
        case .replace:
            let isReplaced = try scene.hasReplaced20()
            if ending.status == 0 { try require(isReplaced, "the old iteration is still there") }
            if !isUncertain, ending.status != 0 { try require(!isReplaced, "failed, but has replaced it") }
            if isReplaced { scene.committed.withLock { $0[20] = Scene.next } }
            try scene.checkIntact()
        case .gc, .repair: try scene.checkIntact()
        case .delete:
            let isThere = try scene.listed().contains(10)
            if ending.status == 0 { try require(!isThere, "the iteration is still there") }
            if !isUncertain, ending.status != 0 { try require(isThere, "failed, but has deleted it") }
            if !isThere { scene.committed.withLock { $0[10] = nil } }
            try scene.checkIntact()
        case .restore:
            let place = scene.folder + "/restored"
            let isThere = FileManager.default.fileExists(atPath: place)
            if ending.signal == nil, !isUncertain {
                try require(
                    isThere == (ending.status == 0), "the destination is \(isThere ? "" : "not ")there")
            }
            if isThere { try Self.compare(place) }
            // The next restore to the same place takes away what a dead one left there.
            _ = try Child.run(["rm", "-rf", place])
            try scene.cairn(["restore", "r@30", place]).mustSucceed("the next restore")
            try Self.compare(place)
            try scene.checkIntact()
        case .restoreForce:
            let place = scene.folder + "/restored"
            let found = try Checkpoint.read(place)
            let isNew = Checkpoint(run: 1, step: 30).difference(from: found) == nil
            try require(
                isNew || Self.earlier.difference(from: found) == nil,
                "neither the old nor the new one is there")
            let saysNew = ending.error.contains("what was there before could not be removed")
            if ending.signal == nil, !isUncertain {
                try require(
                    isNew == (ending.status == 0 || saysNew),
                    "the destination is \(isNew ? "new" : "the old one")")
            }
            try scene.cairn(["restore", "r@30", place, "--force"]).mustSucceed("the next restore")
            try Self.compare(place)
            try scene.checkIntact()
        }
    }

    private static func compare(_ place: String) throws {
        if let difference = Checkpoint(run: 1, step: 30).difference(from: try Checkpoint.read(place)) {
            throw Trouble("restored: \(difference)")
        }
    }
}

extension Scene {
    /// Whether `r@20` holds what `replace` saves there.
    func hasReplaced20() throws -> Bool {
        let place = folder + "/is-replaced"
        defer { _ = try? Child.run(["rm", "-rf", place]) }
        try cairn(["restore", "r@20", place]).mustSucceed("restore r@20")
        return Self.next.difference(from: try Checkpoint.read(place)) == nil
    }
}
