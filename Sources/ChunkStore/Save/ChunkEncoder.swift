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

    /// The records of these chunks, in any order. Their payloads are good until the worker's next call.
    func encode(_ inputs: [Input]) throws -> [Record] {
        guard session.encoding.usesPlanes else {
            return inputs.enumerated().map { Record(raw: $1.chunk, index: $0) }
        }
        var output = Output(
            try worker.output(inputs.reduce(0) { $0 + PlaneCoder.bound($1.chunk.bytes.count) }))
        var records: [Record] = []
        var deltas: [(index: Int, choice: EncodingChoice, delta: EncodingChoice.Delta, chain: [ChunkPlace])] =
            []
        for (index, input) in inputs.enumerated() {
            guard input.chunk.bytes.count <= store.chunkSize else {
                // The head of an iteration with much to say.
                records.append(Record(raw: input.chunk, index: index))
                continue
            }
            let (choice, tried) = try self.choice(for: input, index, &output)
            if let tried {
                records.append(tried)
            } else if let delta = choice.delta, let chain = base(of: input, ratio: delta.ratio) {
                deltas.append((index, choice, delta, chain))
            } else {
                records.append(planes(index, input.chunk, choice, &output))
            }
        }
        guard !deltas.isEmpty else { return records }
        let wanted = deltas.indices.map { ChunkReader.Wanted(index: $0, chain: deltas[$0].chain) }
        try worker.reader().read(
            wanted, isWhole: { isWhole($0.chain[0], $1, inputs[deltas[$0.index].index]) },
            deliver: { place, base in
                let (index, choice, delta, chain) = deltas[place]
                let input = inputs[index]
                if let record = self.delta(index, input, choice, delta, chain, base, &output) {
                    records.append(record)
                } else {
                    records.append(planes(index, input.chunk, choice, &output))
                }
            },
            failed: { wanted in
                let (index, choice, _, chain) = deltas[wanted.index]
                noteLost(chain[0].id)
                records.append(planes(index, inputs[index].chunk, choice, &output))
            })
        return records
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
        if worker.makesFingerprints {
            let known = fingerprint(of: chain[0], input)
            record.baseFingerprint = known == .none ? worker.fingerprinter.fingerprint(base) : known
        }
        return record
    }

    /// The newest version at a chunk's place that a delta of about this size may lean on, with what it leans on itself.
    private func base(of input: Input, ratio: Double) -> [ChunkPlace]? {
        let size = Int(ratio * Double(input.chunk.bytes.count))
        return input.chain.indices.lazy.map { Array(input.chain[$0...]) }.first { chain in
            store.recovery.allows(size, before: chain) && isUsable(chain, for: input.chunk)
        }
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

    /// How the chunks of this one's tensor are encoded: tried once, on the first that comes and has an earlier chunk that can be
    /// read. That one's record comes along where it leans on a base, which was at hand.
    private func choice(
        for input: Input, _ index: Int, _ output: inout Output
    ) throws -> (EncodingChoice, Record?) {
        let tensor = input.chunk.tensor
        if tensor >= 0, let known = session.choices.change({ $0[tensor] }),
            known.isDeltaTried || input.chain.isEmpty
        {
            return (known, nil)
        }
        let (searches, ratio) = worker.coder.trial(
            Self.sample(input.chunk.bytes), base: nil, elementSize: input.chunk.elementSize,
            planes: output.rest)
        var choice = EncodingChoice(planes: searches, planesRatio: ratio)
        let record = try tryDelta(input, index, &choice, &output)
        if tensor >= 0 { session.choices.change { $0[tensor] = choice } }
        return (choice, record)
    }

    /// A stretch from the middle of a chunk, of whole elements.
    private static func sample(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let count = min(sampleSize, bytes.count)
        let start = (bytes.count - count) / 2 / 8 * 8
        return UnsafeRawBufferPointer(rebasing: bytes[start..<start + count])
    }

    /// Tries the newest version that a delta might lean on, and older ones where it would be too large for that. Completes the
    /// choice, and returns the chunk's record where it is worth it.
    private func tryDelta(
        _ input: Input, _ index: Int, _ choice: inout EncodingChoice, _ output: inout Output
    ) throws -> Record? {
        var record: Record?
        var isTried = false
        for start in input.chain.indices where !isTried {
            let chain = Array(input.chain[start...])
            // A delta is about as large as the one that the base itself is.
            let first = chain[0].location
            let expected = first.codec.hasBase ? Int(first.storedLength) * 9 / 10 : 0
            guard store.recovery.allows(expected, before: chain), isUsable(chain, for: input.chunk) else {
                continue
            }
            try worker.reader().read(
                [.init(index: 0, chain: chain)], isWhole: { isWhole($0.chain[0], $1, input) },
                deliver: { _, base in
                    choice.isDeltaTried = true
                    let (searches, ratio) = worker.coder.trial(
                        Self.sample(input.chunk.bytes), base: Self.sample(base),
                        elementSize: input.chunk.elementSize, planes: output.rest)
                    let size = Int(ratio * Double(input.chunk.bytes.count))
                    guard store.recovery.allows(size, before: chain) else { return }
                    isTried = true
                    guard ratio < choice.planesRatio * session.encoding.deltaLimit else { return }
                    let delta = EncodingChoice.Delta(searches: searches, ratio: ratio)
                    choice.delta = delta
                    record = self.delta(index, input, choice, delta, chain, base, &output)
                }, failed: { noteLost($0.chain[0].id) })
        }
        return record
    }
}
