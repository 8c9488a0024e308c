//! What the sensor's services share: the network that they serve on and the latest reading.

use core::net::Ipv4Addr;

use embassy_net::Stack;

use crate::{
    http::{Answer, Gone, Pages},
    sensor::{Degrees, Latest},
    stack,
};

/// Copies are the same application.
#[derive(Clone, Copy)]
pub(crate) struct Application {
    /// The mesh; the board's own network where the image has no mesh.
    pub(crate) stack: Stack<'static>,
    pub(crate) latest: &'static Latest,
    #[cfg(feature = "weft")]
    pub(crate) node: weft_embassy::Node,
}

impl Application {
    /// The address of `name`: an address as it is written, else a peer of the mesh, or a name of the board's own network.
    pub(crate) async fn resolve(&self, name: &str) -> Option<Ipv4Addr> {
        if let Ok(address) = name.parse() {
            return Some(address);
        }
        #[cfg(feature = "weft")]
        return self.node.resolve(name).await.ok();
        #[cfg(not(feature = "weft"))]
        return match self.stack.dns_query(name, embassy_net::dns::DnsQueryType::A).await.ok()?.first()? {
            embassy_net::IpAddress::Ipv4(address) => Some(*address),
        };
    }

    async fn page(&self, answer: &mut Answer<'_, '_>) -> Result<(), Gone> {
        answer.begin("200 OK", "text/html; charset=utf-8").await?;
        answer.text(HEAD).await?;
        let reading = self.latest.get();
        let seconds = reading.at.as_secs();
        answer.write(format_args!("<p class=big>{} &deg;C</p>\n<table>", Degrees(reading.temperature))).await?;
        answer.write(format_args!("<tr><th>Readings<td>{}<tr><th>Up<td>{seconds} s\n", reading.number)).await?;
        answer
            .write(format_args!("<tr><th>Stack, deepest<td>{} of {} bytes\n", stack::high_water(), stack::size()))
            .await?;
        #[cfg(feature = "weft")]
        crate::mesh::rows(&self.node, answer).await?;
        answer.text("</table>\n").await
    }
}

impl Pages for Application {
    async fn get(&self, target: &str, answer: &mut Answer<'_, '_>) -> Result<(), Gone> {
        match target {
            "/" => self.page(answer).await,
            "/reading" => {
                answer.begin("200 OK", "application/json").await?;
                answer.write(format_args!("{}\n", self.latest.get())).await
            }
            "/stack" => {
                answer.begin("200 OK", "text/plain").await?;
                answer.write(format_args!("{}\n", stack::high_water())).await
            }
            _ => {
                answer.begin("404 Not Found", "text/plain").await?;
                answer.text("Here are /, /reading and /stack.\n").await
            }
        }
    }
}

const HEAD: &str = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>\
<meta http-equiv=refresh content=10><title>Weft sensor</title>\
<style>body{font:1rem system-ui;margin:2rem auto;max-width:30rem}.big{font-size:3rem;margin:.5rem 0}\
th{text-align:left;padding-right:1rem;font-weight:normal;color:#666}</style>\n<h1>Weft sensor</h1>\n";
