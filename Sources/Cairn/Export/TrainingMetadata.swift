internal import Platform
internal import TensorFormats

/// What was recorded of the training when an iteration was saved, as a file beside the exported tensors.
enum TrainingMetadata {
    static let fileName = "training_metadata.json"

    /// - Parameter metadata: the iteration's, as JSON texts.
    static func file(_ info: IterationInfo, _ metadata: [String: String]) -> OutputFile {
        let document = JSON.fields(
            ("run", JSON(info.run)), ("step", JSON(info.step)), ("id", JSON(info.idText)),
            ("createdAt", JSON(Timestamp(info.createdAt).iso8601)), ("metrics", JSON(metrics: info.metrics)),
            ("metadata", JSON(metadata: metadata)))
        return OutputFile(path: [UInt8](fileName.utf8), parts: [.literal(document.line)])
    }
}
