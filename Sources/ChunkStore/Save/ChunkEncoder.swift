internal import Platform

/// How the chunks of one tensor are encoded, by what was tried on one of them.
struct EncodingChoice {
    var planes: PlaneCoder.Searches
    /// Stored bytes for each byte, without a base.
    var planesRatio: Double
    /// Against an earlier chunk; nil where that is not worth it.
    var delta: Delta?
    /// Some earlier chunk could be tried.
    var isDeltaTried = false

    /// Nothing of what was looked at could be made smaller.
    var isUseless: Bool { delta == nil && planesRatio > 63.0 / 64 }

    struct Delta {
        var searches: PlaneCoder.Searches
        var ratio: Double
    }
}

/// Encodes new chunks, each as whatever is smallest, by what a sample of its tensor says.
struct ChunkEncoder {
    struct Record {
        /// The chunk's place among those that were given.
        var index: Int
        var entry: PackEntry
        var payload: UnsafeRawBufferPointer
        var baseFingerprint = Fingerprint.none

        /// A chunk as it is.
        init(raw chunk: SaveChunk, index: Int) {
            let length = UInt32(chunk.bytes.count)
            self.index = index
            payload = chunk.bytes
            entry = PackEntry(
                id: chunk.id, offset: 0, rawLength: length, storedLength: length, codec: .raw)
        }

        /// - Parameter base: of a delta.
        init(
            _ chunk: SaveChunk, index: Int, _ codec: Codec, _ payload: UnsafeRawBufferPointer,
            base: ChunkID = .zero
        ) {
            self.init(raw: chunk, index: index)
            self.payload = payload
            entry.codec = codec
            entry.storedLength = UInt32(payload.count)
            entry.base = base
        }
    }

    /// A chunk with the records that the earlier one at its place is made from, the earlier one's own first.
    typealias Input = (chunk: SaveChunk, chain: [ChunkPlace])

    let session: SaveSession
    let worker: SaveWorker

    /// Bytes of a chunk that encodings are tried on.
    private static let sampleSize = 32 << 10

    /// How far the share of a chunk that is stored may lie from the sample's until another one is tried.
    private static let tolerance = 1.0 / 32

    private var store: ChunkStore { session.store }

    /// Chunks whose bases are being read.
    struct Begun {
        fileprivate var inputs: [Input]
        /// By input: what is read, or in memory.
        fileprivate var chains: [Int: [ChunkPlace]]
        fileprivate var isReading: Bool
        /// By tensor of which nothing could be made smaller so far: its first chunk here. What follows may be of another kind, which
        /// would never show where everything is kept as it is.
        fileprivate var triedAnew: [Int: Int]
    }

    /// Begins to read the bases that these chunks may lean on, for `finish`.
    func begin(_ inputs: [Input]) throws -> Begun {
        var chains: [Int: [ChunkPlace]] = [:]
        var triedAnew: [Int: Int] = [:]
        if session.encoding.usesPlanes {
            let useless = inputs.indices.filter { known(inputs[$0])?.isUseless == true }
            triedAnew = Dictionary(useless.map { (inputs[$0].chunk.tensor, $0) }, uniquingKeysWith: min)
            let others = Set(useless).subtracting(triedAnew.values)
            for (index, input) in inputs.enumerated() where !others.contains(index) {
                chains[index] = likelyBase(
                    of: input, triedAnew[input.chunk.tensor] == nil ? known(input) : nil)
            }
        }
        let reading = chains.filter { bytes(of: $1[0], inputs[$0]) == nil }
        if !reading.isEmpty {
            try worker.reader().begin(
                reading.map { .init(index: $0, chain: $1) }, session.errands)
        }
        return Begun(inputs: inputs, chains: chains, isReading: !reading.isEmpty, triedAnew: triedAnew)
    }

    /// Encodes the chunks, in any order.
    /// - Parameter emit: takes a few records at a time, whose payloads are good until it returns.
    func finish(_ begun: Begun, emit: ([Record]) throws -> Void) throws {
        let inputs = begun.inputs
        guard session.encoding.usesPlanes else {
            return try emit(inputs.enumerated().map { Record(raw: $1.chunk, index: $0) })
        }
        var output = Output(try worker.output())
        var records: [Record] = []
        func makeRoom(for input: Input) throws {
            guard output.rest.count < PlaneCoder.bound(input.chunk.bytes.count) else { return }
            try emit(records)
            records = []
            output = Output(try worker.output())
        }
        session.choices.change { choices in
            for tensor in begun.triedAnew.keys where choices[tensor]?.isUseless == true {
                choices[tensor] = nil
            }
        }
        var isDone = [Bool](repeating: false, count: inputs.count)
        /// The first of its bases that may do where what was read does not. None where that is damaged: they mostly share it.
        var next = [Int](repeating: 0, count: inputs.count)
        // The first of a tensor shows whether the others are to lean on theirs as well.
        func isNeeded(_ index: Int) -> Bool { known(inputs[index]).map { $0.delta != nil } ?? true }
        func take(_ index: Int, _ base: UnsafeRawBufferPointer) throws {
            try makeRoom(for: inputs[index])
            let chain = begun.chains[index]!
            if let record = record(index, inputs[index], chain, base, &output) {
                records.append(record)
                isDone[index] = true
            } else {
                next[index] = inputs[index].chain.count - chain.count + 1
            }
        }
        for (index, chain) in begun.chains {
            if let base = bytes(of: chain[0], inputs[index]), isNeeded(index) { try take(index, base) }
        }
        if begun.isReading {
            try worker.reader().finish(
                isNeeded: isNeeded,
                areWhole: { $0.map { isWhole($0.wanted.chain[0], $0.bytes, inputs[$0.wanted.index]) } },
                deliver: take,
                failed: { wanted in
                    noteLost(wanted.chain[0].id)
                    next[wanted.index] = inputs[wanted.index].chain.count
                })
        }
        for index in inputs.indices where !isDone[index] {
            guard inputs[index].chunk.bytes.count <= store.chunkSize else {
                // The head of an iteration with much to say.
                records.append(Record(raw: inputs[index].chunk, index: index))
                continue
            }
            try makeRoom(for: inputs[index])
            records.append(try record(index, inputs[index], from: next[index], &output))
        }
        try emit(records)
    }

    /// Where payloads go, one behind the other.
    private struct Output {
        private var free: UnsafeMutableRawBufferPointer
        init(_ buffer: UnsafeMutableRawBufferPointer) { free = buffer }

        var rest: UnsafeMutableRawBufferPointer { free }

        mutating func take(_ count: Int) -> UnsafeRawBufferPointer {
            defer { free = UnsafeMutableRawBufferPointer(rebasing: free[count...]) }
            return UnsafeRawBufferPointer(rebasing: free[..<count])
        }
    }

    private func planes(
        _ index: Int, _ chunk: SaveChunk, _ choice: EncodingChoice, _ output: inout Output
    ) -> Record {
        let stored = worker.coder.encode(
            chunk.bytes, base: nil, elementSize: chunk.elementSize, choice.planes, into: output.rest)
        check(choice.planesRatio, chunk, stored)
        guard let stored else { return Record(raw: chunk, index: index) }
        return Record(chunk, index: index, .planes, output.take(stored))
    }

    /// nil where the delta turns out not to be worth it, or to make the chain too long.
    private func delta(
        _ index: Int, _ input: Input, _ choice: EncodingChoice, _ delta: EncodingChoice.Delta,
        _ chain: [ChunkPlace], _ base: UnsafeRawBufferPointer, _ output: inout Output
    ) -> Record? {
        let chunk = input.chunk
        let stored = worker.coder.encode(
            chunk.bytes, base: base, elementSize: chunk.elementSize, delta.searches, into: output.rest)
        check(delta.ratio, chunk, stored)
        let limit = choice.planesRatio * session.encoding.deltaLimit * Double(chunk.bytes.count)
        guard let stored, Double(stored) < limit, store.recovery.allows(stored, before: chain) else {
            return nil
        }
        var record = Record(chunk, index: index, .delta, output.take(stored), base: chain[0].id)
        // By it a later save sees that the base was read as it is; saves whose bases are in memory read none.
        if worker.makesFingerprints, bytes(of: chain[0], input) == nil {
            let known = fingerprint(of: chain[0], input)
            record.baseFingerprint = known == .none ? worker.fingerprinter.fingerprint(base) : known
        }
        return record
    }

    /// The newest version at a chunk's place that a delta may lean on, with what it leans on itself; nil where no delta is worth it.
    private func likelyBase(of input: Input, _ known: EncodingChoice?) -> [ChunkPlace]? {
        guard input.chunk.bytes.count <= store.chunkSize else { return nil }
        if let known, known.delta == nil { return nil }
        return bases(of: input).lazy.map { Array(input.chain[$0...]) }.first {
            store.recovery.allows(expectedSize(input, known, $0), before: $0)
                && isUsable($0, for: input.chunk)
        }
    }

    /// The places in its chain of the versions that a chunk may lean on.
    private func bases(of input: Input) -> Range<Int> {
        if session.encoding.readsBases { return input.chain.indices }
        return 0..<(input.chunk.earlierBytes == nil ? 0 : min(1, input.chain.count))
    }

    /// The bytes of a version that is in memory.
    private func bytes(of base: ChunkPlace, _ input: Input) -> UnsafeRawBufferPointer? {
        base.id == input.chunk.earlier ? input.chunk.earlierBytes : nil
    }

    /// Bytes of a delta: those that the tensor's others take, or else about as many as the one that the base itself is.
    private func expectedSize(_ input: Input, _ choice: EncodingChoice?, _ chain: [ChunkPlace]) -> Int {
        if let delta = choice?.delta { return Int(delta.ratio * Double(input.chunk.bytes.count)) }
        let first = chain[0].location
        return first.codec.hasBase ? Int(first.storedLength) * 9 / 10 : 0
    }

    private func isUsable(_ chain: [ChunkPlace], for chunk: SaveChunk) -> Bool {
        chain.allSatisfy { place in
            place.id != chunk.id && !place.location.isDamaged && place.location.codec.isKnown
                && Int(place.location.rawLength) == chunk.bytes.count
        }
    }

    /// Whether these bytes are the base: by its fingerprint where that is known, which takes a fifth of the time. Another fingerprint
    /// may be that of a base whose record never counted, as another save had committed the chunk first.
    private func isWhole(_ base: ChunkPlace, _ bytes: UnsafeRawBufferPointer, _ input: Input) -> Bool {
        let fingerprint = fingerprint(of: base, input)
        if worker.makesFingerprints, fingerprint != .none,
            worker.fingerprinter.fingerprint(bytes) == fingerprint
        {
            return true
        }
        return ChunkID(worker.hasher.digest(bytes)) == base.id
    }

    /// The fingerprint of the earlier chunk, or of the one that it leans on, as far as the last save has left it.
    private func fingerprint(of base: ChunkPlace, _ input: Input) -> Fingerprint {
        let known = input.chunk.earlierFingerprints
        if base.id == input.chunk.earlier { return known.own }
        return input.chain.count > 1 && base.id == input.chain[1].id ? known.base : .none
    }

    private func noteLost(_ id: ChunkID) { session.state.change { _ = $0.lostBases.insert(id) } }
}

extension ChunkEncoder {
    /// Forgets how a tensor is encoded where a chunk turns out to be another kind: one tensor may hold many, one behind the other.
    private func check(_ ratio: Double, _ chunk: SaveChunk, _ stored: Int?) {
        let actual = Double(stored ?? chunk.bytes.count) / Double(chunk.bytes.count)
        guard chunk.tensor >= 0, abs(actual - ratio) > Self.tolerance else { return }
        session.choices.change { $0[chunk.tensor] = nil }
    }

    /// How the chunks of this one's tensor are encoded, as far as that is known.
    private func known(_ input: Input) -> EncodingChoice? {
        guard input.chunk.tensor >= 0, let known = session.choices.change({ $0[input.chunk.tensor] }),
            known.isDeltaTried || input.chain.isEmpty
        else { return nil }
        return known
    }

    private func set(_ choice: EncodingChoice, for input: Input) {
        if input.chunk.tensor >= 0 { session.choices.change { $0[input.chunk.tensor] = choice } }
    }

    /// Tries how a chunk is best encoded without a base.
    private func trial(_ input: Input, _ output: inout Output) -> EncodingChoice {
        let (searches, ratio) = worker.coder.trial(
            Self.sample(input.chunk.bytes), base: nil, elementSize: input.chunk.elementSize,
            planes: output.rest)
        return EncodingChoice(planes: searches, planesRatio: ratio)
    }

    /// A stretch from the middle of a chunk, of whole elements.
    private static func sample(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let count = min(sampleSize, bytes.count)
        let start = (bytes.count - count) / 2 / 8 * 8
        return UnsafeRawBufferPointer(rebasing: bytes[start..<start + count])
    }

    /// A chunk's record, where this base is at hand: the first of its tensor tries how it is encoded.
    /// - Returns: nil where a delta may be worth it, but not against this base: the chain would become too long.
    private func record(
        _ index: Int, _ input: Input, _ chain: [ChunkPlace], _ base: UnsafeRawBufferPointer,
        _ output: inout Output
    ) -> Record? {
        var choice: EncodingChoice
        if let known = known(input) {
            choice = known
        } else {
            choice = trial(input, &output)
            choice.isDeltaTried = true
            let (searches, ratio) = worker.coder.trial(
                Self.sample(input.chunk.bytes), base: Self.sample(base),
                elementSize: input.chunk.elementSize, planes: output.rest)
            if ratio < choice.planesRatio * session.encoding.deltaLimit {
                choice.delta = EncodingChoice.Delta(searches: searches, ratio: ratio)
            }
            if choice.delta == nil || store.recovery.allows(expectedSize(input, choice, chain), before: chain)
            {
                set(choice, for: input)
            }
        }
        guard let delta = choice.delta else { return planes(index, input.chunk, choice, &output) }
        guard store.recovery.allows(expectedSize(input, choice, chain), before: chain) else { return nil }
        return self.delta(index, input, choice, delta, chain, base, &output)
            ?? planes(index, input.chunk, choice, &output)
    }

    /// A chunk's record, against one of the older bases, from this one on, where that is worth it.
    private func record(
        _ index: Int, _ input: Input, from first: Int, _ output: inout Output
    ) throws -> Record {
        var record: Record?
        var isLost = false
        for start in bases(of: input) where start >= first && record == nil && !isLost {
            let chain = Array(input.chain[start...])
            let choice = known(input)
            if let choice, choice.delta == nil { break }
            guard store.recovery.allows(expectedSize(input, choice, chain), before: chain),
                isUsable(chain, for: input.chunk)
            else { continue }
            if let base = bytes(of: chain[0], input) {
                record = self.record(index, input, chain, base, &output)
                continue
            }
            let reader = try worker.reader()
            reader.begin([.init(index: 0, chain: chain)])
            try reader.finish(
                areWhole: { $0.map { isWhole($0.wanted.chain[0], $0.bytes, input) } },
                deliver: { _, base in record = self.record(index, input, chain, base, &output) },
                failed: {
                    noteLost($0.chain[0].id)
                    isLost = true
                })
        }
        if let record { return record }
        if let choice = known(input) { return planes(index, input.chunk, choice, &output) }
        let choice = trial(input, &output)
        set(choice, for: input)
        return planes(index, input.chunk, choice, &output)
    }
}
