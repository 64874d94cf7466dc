extension JournalEvent {
    /// The record's kind and payload.
    func encoded() -> (kind: UInt16, payload: [UInt8]) {
        var writer = ByteWriter()
        switch self {
        case .initialized(let version):
            writer.string(version)
            return (1, writer.bytes)
        case .commit(let commit):
            commit.write(to: &writer)
            return (2, writer.bytes)
        case .delete(let deletions):
            writer.varint(deletions.count)
            for deletion in deletions {
                writer.varint(deletion.iteration)
                writer.string(deletion.reason)
            }
            return (3, writer.bytes)
        case .pin(let name, let iteration):
            writer.string(name)
            writer.varint(iteration)
            return (4, writer.bytes)
        case .unpin(let name):
            writer.string(name)
            return (5, writer.bytes)
        case .policy(let run, let policy):
            writer.string(run)
            writer.bytes(policy)
            return (6, writer.bytes)
        case .sweep(let token, let removed):
            writer.raw(token)
            writer.varint(removed.count)
            for name in removed { writer.raw(name.bytes) }
            return (7, writer.bytes)
        case .repair(let packs):
            writer.varint(packs.count)
            for pack in packs { pack.write(to: &writer) }
            return (8, writer.bytes)
        case .annotate(let annotation):
            annotation.write(to: &writer)
            return (9, writer.bytes)
        case .rewind(let iterations):
            writer.varint(iterations.count)
            for iteration in iterations { writer.varint(iteration) }
            return (10, writer.bytes)
        }
    }

    init(kind: UInt16, payload: ByteReader) throws(FormatError) {
        var reader = payload
        switch kind {
        case 1: self = .initialized(version: try reader.string())
        case 2: self = .commit(try Commit(from: &reader))
        case 3:
            var deletions: [Deletion] = []
            for _ in 0..<(try reader.items(each: 2)) {
                deletions.append(Deletion(iteration: try reader.varint(), reason: try reader.string()))
            }
            self = .delete(deletions)
        case 4: self = .pin(name: try reader.string(), iteration: try reader.varint())
        case 5: self = .unpin(name: try reader.string())
        case 6: self = .policy(run: try reader.string(), policy: try reader.bytes())
        case 7:
            let token = try reader.raw(16)
            var removed: [PackName] = []
            for _ in 0..<(try reader.items(each: 16)) { removed.append(PackName(try reader.raw(16))) }
            self = .sweep(token: token, removedPacks: removed)
        case 8: self = .repair(try Self.packs(from: &reader))
        case 9: self = .annotate(try Annotation(from: &reader))
        case 10:
            var iterations: [UInt64] = []
            for _ in 0..<(try reader.items()) { iterations.append(try reader.varint()) }
            self = .rewind(iterations)
        default: throw FormatError("is of the unknown kind \(kind)")
        }
        try reader.expectEnd()
    }

    static func packs(from reader: inout ByteReader) throws(FormatError) -> [CommittedPack] {
        var packs: [CommittedPack] = []
        for _ in 0..<(try reader.items(each: 72)) { packs.append(try CommittedPack(from: &reader)) }
        return packs
    }
}

extension JournalEvent.Commit {
    func write(to writer: inout ByteWriter) {
        writer.string(run)
        writer.varint(step)
        writer.bytes(head)
        writer.string(origin)
        writer.varint(replaces.map { $0 + 1 } ?? 0)
        writer.varint(packs.count)
        for pack in packs { pack.write(to: &writer) }
        writer.varint(storedBytes)
        writer.varint(pins.count)
        for pin in pins { writer.string(pin) }
        writer.string(version)
    }

    init(from reader: inout ByteReader) throws(FormatError) {
        run = try reader.string()
        step = try reader.varint()
        head = try reader.bytes()
        origin = try reader.string()
        let replaced = try reader.varint()
        replaces = replaced == 0 ? nil : replaced - 1
        packs = try JournalEvent.packs(from: &reader)
        storedBytes = try reader.varint()
        pins = []
        for _ in 0..<(try reader.items()) { pins.append(try reader.string()) }
        version = try reader.string()
    }
}

extension JournalEvent.Annotation {
    func write(to writer: inout ByteWriter) {
        writer.varint(iteration)
        writer.map(metrics)
        writer.map(metadata)
        writer.string(note)
    }

    init(from reader: inout ByteReader) throws(FormatError) {
        iteration = try reader.varint()
        metrics = try reader.doubles()
        metadata = try reader.strings()
        note = try reader.string()
    }
}
