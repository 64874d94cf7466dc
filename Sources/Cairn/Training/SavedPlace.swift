internal import ChunkStore
internal import Platform
internal import TensorFormats

/// Where a checkpoint was when it was saved, below the folder that its training wrote to.
struct SavedPlace: Hashable {
    /// The metadata key under which it is recorded.
    static let key = "cairn.place"

    /// Its folder; empty where its files lie right in the output folder.
    var path: String
    /// The folder holds nothing else.
    var isWhole: Bool

    init(path: String, isWhole: Bool) { (self.path, self.isWhole) = (path, isWhole) }

    /// - Parameter text: JSON, as `text` gives it.
    init?(_ text: String) {
        guard let value = try? JSON(parsing: [UInt8](text.utf8)), let path = value["path"]?.stringValue,
            let isWhole = value["whole"]?.bool, !path.hasPrefix("/"),
            !path.split(separator: "/").contains("..")
        else { return nil }
        self.init(path: path, isWhole: isWhole)
    }

    var text: String {
        JSON.object([.init("path", JSON(path)), .init("whole", JSON(isWhole))]).text
    }
}

extension Store {
    /// nil where that was not recorded.
    func place(of info: IterationInfo) throws -> SavedPlace? {
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        return try metadata(of: info, manifest.head)[SavedPlace.key].flatMap { SavedPlace($0) }
    }
}
