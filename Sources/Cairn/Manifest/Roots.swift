public import ChunkStore
internal import Platform

/// Every file, folder and symbolic link of an iteration, with where its bytes are. (Docs/format.md 6)
public struct Roots: Sendable, Equatable {
    /// Where the bytes of a file are.
    public enum FileContent: Sendable, Hashable {
        /// One blob with the whole file.
        case opaque(BlobRef)
        /// The schema, and the roots of its blobs in its order: `.zero` where the schema gives 0 bytes.
        case split(schema: BlobRef, blobs: [ChunkID])
    }

    public enum Kind: Sendable, Hashable {
        case file(FileContent)
        case folder
        case link(target: [UInt8])
    }

    public struct Entry: Sendable, Hashable {
        /// Relative to the checkpoint's folder, parts separated by `/`; empty for that folder itself. Bytes,
        /// because Linux keeps names that are not UTF-8.
        public var path: [UInt8]
        public var kind: Kind
        /// The permission bits, at most 07777.
        public var mode: UInt16
        /// Modification time: seconds since 1970 UTC.
        public var mtime: Int64
        /// And nanoseconds, below 10^9.
        public var nanoseconds: UInt32

        public init(path: [UInt8], kind: Kind, mode: UInt16, mtime: Int64, nanoseconds: UInt32) {
            self.path = path
            self.kind = kind
            self.mode = mode
            self.mtime = mtime
            self.nanoseconds = nanoseconds
        }

        /// The path for people: UTF-8 as it is; control characters and other bytes escaped.
        public var text: String { Path.text(of: path) }
    }

    /// Sorted by the bytes of their paths, no path twice.
    public var entries: [Entry]

    /// - Parameter entries: in any order.
    public init(_ entries: [Entry]) {
        self.entries = entries.sorted { $0.path.lexicographicallyPrecedes($1.path) }
    }

    /// The entry with exactly this path. O(log n)
    public subscript(path: [UInt8]) -> Entry? {
        let place = entries.indices.partitioningIndex { !entries[$0].path.lexicographicallyPrecedes(path) }
        return place < entries.count && entries[place].path == path ? entries[place] : nil
    }

    /// That the entries are sorted, each follows the rules of its kind, and none lies below a file or a link,
    /// so that no restore ever writes outside its destination.
    public func check() throws(FormatError) {
        var leaves: Set<[UInt8]> = []
        var previous: [UInt8]?
        for entry in entries {
            if let previous, !previous.lexicographicallyPrecedes(entry.path) {
                throw FormatError("holds paths that are not sorted, or one of them twice")
            }
            previous = entry.path
            try entry.check()
            for slash in entry.path.indices where entry.path[slash] == UInt8(ascii: "/") {
                if leaves.contains([UInt8](entry.path[..<slash])) {
                    throw FormatError("holds \(entry.text), which lies below something that is not a folder")
                }
            }
            if entry.kind != .folder { leaves.insert(entry.path) }
        }
    }
}

extension Roots {
    /// Whether a link at `path` may lead out of the folder that holds it all.
    func leaves(_ target: [UInt8], from path: [UInt8]) -> Bool {
        SafePath.leaves(target, from: path) { other in
            if case .link = self[other]?.kind { true } else { false }
        }
    }
}

extension Roots.Entry {
    func check() throws(FormatError) {
        guard mode <= 0o7777 else { throw FormatError("holds \(text) with a mode beyond 07777") }
        guard nanoseconds < 1_000_000_000 else {
            throw FormatError("holds \(text) with a second or more of nanoseconds")
        }
        if path.isEmpty {
            guard kind == .folder else {
                throw FormatError("holds something without a path that is not a folder")
            }
        } else {
            let parts = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            let sound = parts.allSatisfy { part in
                !part.isEmpty && !part.elementsEqual(".".utf8) && !part.elementsEqual("..".utf8)
                    && !part.contains(0)
            }
            guard sound else { throw FormatError("holds the path \(text), which could leave its folder") }
        }
        switch kind {
        case .folder, .file(.opaque): break
        case .link(let target):
            guard !target.isEmpty, !target.contains(0) else {
                throw FormatError("holds the link \(text), whose target is empty or holds a zero byte")
            }
        case .file(.split(let schema, _)):
            guard schema.length > 0 else { throw FormatError("holds \(text), split without a schema") }
        }
    }
}
