internal import ChunkStore
internal import Platform

extension Store {
    /// Gives an iteration a name that protects it from every deletion.
    /// - Parameter weightsOnly: a policy may let go of what is not the model's weights.
    /// - Throws: `.exists` where another iteration has the pin.
    public func pin(_ reference: String, name: String, weightsOnly: Bool = false) throws -> PinInfo {
        let pin = try set(reference, name: name)
        try setWeightsOnly(weightsOnly, pin: pin.name, of: "#" + pin.id)
        return pin
    }

    private func set(_ reference: String, name: String) throws -> PinInfo {
        let name = try PinName(name).text
        let reference = try self.reference(reference)
        return try chunks.change { transaction in
            let info = try resolve(reference, transaction)
            if let other = try transaction.pins().first(where: { $0.name == name }) {
                guard other.iteration == info.number else {
                    throw CairnError(
                        .exists,
                        "the pin \(name) is on another iteration; choose another name, or `cairn unpin \(name)`"
                    )
                }
                return (nil, PinInfo(name, info))
            }
            return (.pin(name: name, iteration: info.number), PinInfo(name, info))
        }
    }

    /// Takes a pin away. The iteration stays, until a policy or a deletion takes it.
    public func unpin(_ name: String) throws -> PinInfo {
        try chunks.change { transaction in
            let info = try resolve(try Reference(name), transaction)
            guard info.pins.contains(name) else {
                throw CairnError(.notFound, "no pin is called \(name); see `cairn pins`")
            }
            return (.unpin(name: name), PinInfo(name, info))
        }
    }

    /// All pins, sorted by name.
    public func pins() throws -> [PinInfo] {
        try iterations().flatMap { info in info.pins.map { PinInfo($0, info) } }.sorted { $0.name < $1.name }
    }

    /// Adds what is known only later: metrics, of which the latest counts, and a note.
    public func annotate(_ reference: String, metrics: [String: Double], note: String?) throws
        -> IterationInfo
    {
        let info = try resolve(reference)
        try annotate(info, metrics: metrics, metadata: [:], note: note ?? "")
        return try resolve("#\(info.id.hex)")
    }

    func annotate(
        _ info: IterationInfo, metrics: [String: Double], metadata: [String: String], note: String
    ) throws {
        try chunks.change { transaction in
            guard try transaction.iterationNumber(run: info.run, step: info.step) == info.number else {
                throw CairnError(.notFound, "\(info.run)@\(info.step) was deleted or replaced meanwhile")
            }
            let annotation = JournalEvent.Annotation(
                iteration: info.number, metrics: metrics, metadata: metadata, note: note)
            return (.annotate(annotation), ())
        }
    }

    /// Marks what came after an iteration, in its run, as superseded: never `latest`, first to go. Pins still hold.
    /// - Returns: the iterations that are superseded now and were not before.
    public func rewind(to reference: String) throws -> [IterationInfo] {
        let reference = try self.reference(reference)
        let (info, later) = try chunks.change { transaction in
            let scope = try scope(transaction)
            let info = try reference.resolve(in: scope)
            let later = scope.iterations.filter {
                $0.run == info.run && $0.step > info.step && !$0.superseded
            }
            return (later.isEmpty ? nil : .rewind(later.map(\.number)), (info, later))
        }
        removeParts(of: info.run, above: info.step, isFirst: !later.isEmpty)
        return later
    }

    /// The retention rules of a run, or nil.
    public func policy(run: String) throws -> Policy? {
        try chunks.read { transaction in
            guard let policy = try transaction.run(run)?.policy, !policy.isEmpty else { return nil }
            return try Policy(json: String(decoding: policy, as: UTF8.self))
        }
    }

    /// The policies of all runs that have one, sorted by run.
    public func policies() throws -> [(run: String, policy: Policy)] {
        let scope = try chunks.read { try self.scope($0) }
        return scope.policies.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// Sets the retention rules of a run, or takes them away. They are applied by the next collection.
    public func setPolicy(_ policy: Policy?, run: String) throws {
        let run = try RunName(run).text
        try policy?.check()
        try chunks.change { _ in (.policy(run: run, policy: policy.map { [UInt8]($0.json.utf8) } ?? []), ()) }
    }
}

extension PinInfo {
    init(_ name: String, _ info: IterationInfo) {
        self.init(name: name, run: info.run, step: info.step, id: info.id.hex)
    }
}
