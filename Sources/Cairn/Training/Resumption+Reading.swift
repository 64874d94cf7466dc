internal import ChunkStore
internal import Platform

/// What can't be read, is not what it was, or has vanished.
extension Resumption {
    /// What is in the folder, by step. One that can't be read is none to go on from.
    static func look(into output: OutputFolder) throws -> ([Found], [Candidate: CairnError]) {
        var unreadable: [Candidate: CairnError] = [:]
        let found = try output.iterations { candidate, error in
            unreadable[candidate] = error
            return Found(candidate: candidate, layout: nil, inspection: Inspection(faults: [error.message]))
        }
        return (found, unreadable)
    }

    /// Reads what seems to be an iteration of the store already, unless another process has just done so.
    mutating func findDamage(_ brought: inout Brought) throws {
        let place = brought
        let isDoubtful = found.contains { !$0.isValid && place.isPlace(of: $0.candidate) }
        let isKnown = options.quick || right?.isVouchedFor(brought.info.id) == true
        guard isDoubtful || !isKnown else { return }
        try brought.findDamage(progress)
        read = brought.info.id
    }

    /// Leaves a word for those who wait.
    func vouch() {
        guard let read, read.hex == result.id, !options.quick, options.ranks == nil, !options.withoutOptimizer
        else { return }
        right?.vouch(for: read)
    }

    /// That nothing is gone back from only because it can't be read just now.
    func checkReadable(_ choice: Choice) throws {
        for (candidate, error) in unreadable {
            switch choice {
            case .found(let one) where (candidate.step ?? .max) <= one.step!: continue
            case .saved(let brought)
            where (candidate.step ?? .max) <= brought.info.step
                || error.isOfContent && brought.isPlace(of: candidate):
                continue
            case .found, .saved, .nothing: break
            }
            throw error.mayHide(candidate)
        }
    }

    /// That an iteration has not vanished.
    func checkThere(_ candidate: Candidate) throws {
        for own in candidate.own where try FileSystem.status(path.appending(own), followLinks: true) == nil {
            throw Brought.changed(path.appending(own))
        }
    }
}

extension CairnError {
    /// What was to be read is not what it was, or the device can't give it any more. All else may pass: a permission, the memory of
    /// the machine, a file system that is elsewhere.
    var isOfContent: Bool { errno == nil || isOfDevice }

    /// The same, saying that nothing can be decided without what it is about.
    func mayHide(_ candidate: Candidate) -> CairnError {
        CairnError(
            code,
            "\(message); \(candidate.name) may be what to go on from: make it readable, or move it elsewhere",
            path: path, errno: errno)
    }
}
