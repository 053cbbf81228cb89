//! Client Identifiers of the lanes of a part.

/// Stands between the name of a part and the number of a lane.
const LANE_MARK: char = '@';

/// Client Identifier of a lane of a part.
pub fn lane_name(part: &str, lane: u16) -> String {
    format!("{part}{LANE_MARK}{lane}")
}

/// The part and the number of a lane with this Client Identifier; none if it is none.
pub fn lane_of(client_id: &str) -> Option<(&str, u16)> {
    // Clients have no identifier like that; share groups have such names.
    if !client_id.starts_with('$') || client_id.starts_with("$share/") {
        return None;
    }
    let (part, number) = client_id.rsplit_once(LANE_MARK)?;
    let lane = number.parse().ok()?;
    // No other spelling of the number, such as `+1` or `01`.
    (lane_name(part, lane) == client_id).then_some((part, lane))
}
