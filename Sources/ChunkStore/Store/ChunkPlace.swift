/// Where a chunk's record is: the name of its pack, and what the index says of it.
public struct ChunkPlace: Hashable, Sendable {
    public var id: ChunkID
    public var pack: PackName
    public var location: ChunkLocation

    init(_ id: ChunkID, _ pack: PackName, _ location: ChunkLocation) {
        self.id = id
        self.pack = pack
        self.location = location
    }
}

/// Finds chunks in one state of the index, or of a rebuild; nil for those that are not there.
typealias ChunkLocator = (ChunkID) throws -> ChunkPlace?
